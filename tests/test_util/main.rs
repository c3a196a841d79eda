//! The loopback servers and the probe: what other tests rely on.

mod api;
mod client;
mod faults;
mod issuer;
mod metadata;
mod probe;
mod sockets;
