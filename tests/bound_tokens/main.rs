//! Tokens that are bound to a certificate (RFC 8705 §3), over real handshakes on loopback.
#![cfg(feature = "https")]

#[path = "../support/mod.rs"]
mod support;

mod changes;
mod discovered;
mod fetches;
mod sharing;
mod world;
