//! Secrets that change: no caller is affected, in whatever order the change arrives.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod sources;
#[path = "../support/mod.rs"]
mod support;
mod under_load;
mod world;
