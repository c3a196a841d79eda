//! What is promised of tokens, through the public API and in virtual time.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod callers;
mod fetches;
mod refreshes;
mod rejections;
mod runtimes;
