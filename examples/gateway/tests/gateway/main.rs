//! What the gateway promises, over real sockets on loopback.

mod credentials;
mod limits;
mod operations;
mod runbook;
mod streaming;
mod support;
