//! Quotas in several partitions, by hand, and spread over their windows, in virtual time.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod announced;
mod partitions;
mod pauses;
mod resources;
mod routes;
mod windows;
mod world;
