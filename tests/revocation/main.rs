//! What becomes of the token on shutdown (RFC 7009).
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod endpoints;
mod outcomes;
mod world;
