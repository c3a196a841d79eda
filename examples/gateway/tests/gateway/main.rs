//! What the gateway promises, over real sockets on loopback.

mod configuration;
mod connections;
mod credentials;
mod limits;
mod operations;
mod program;
mod readme;
mod runbook;
mod shutdown;
mod streaming;
mod support;
