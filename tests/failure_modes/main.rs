//! What the guides `failure_modes` and `security` say and no other test shows; and that every test they name is there.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod api;
mod guides;
mod tokens;
