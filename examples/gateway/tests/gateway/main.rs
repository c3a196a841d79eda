//! What the gateway promises, over real sockets on loopback.

mod credentials;
mod limits;
mod operations;
mod streaming;
mod support;
