//! What the gateway promises, over real sockets on loopback.

mod configuration;
mod credentials;
mod limits;
mod operations;
mod program;
mod readme;
mod runbook;
mod streaming;
mod support;
