//! A token endpoint that fails briefly: which requests are retried immediately, and which are not.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod not_retried;
mod retried;
mod world;
