//! Secrets, tokens and keys show up nowhere: neither in `Debug` or `Display` of anything that a program can print, nor in
//! events, nor in the log at its most talkative, whatever a server repeats of them.

#[path = "../support/mod.rs"]
mod support;

mod api;
mod challenge;
mod config;
mod echo;
mod endpoint;
#[cfg(any(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto"))]
mod keys;
mod output_log;
mod search;
mod sockets;
