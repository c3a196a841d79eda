//! A token endpoint that fails for a moment: what is asked again at once, and what is not.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod not_retried;
mod retried;
mod world;
