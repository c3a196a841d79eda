//! What the gateway promises, over real sockets on loopback.

mod blame;
mod configuration;
mod connections;
mod credentials;
mod fields;
mod limits;
mod operations;
mod program;
mod readme;
mod reload;
mod runbook;
mod shutdown;
mod smuggling;
mod streaming;
mod support;
