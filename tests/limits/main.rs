//! What is promised of rate limits, through the public API and in virtual time.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod deadlines;
mod debug_output;
mod fast_path;
mod holds;
mod partitions;
mod queue_order;
mod retries;
mod throttling;
mod waiting;
mod world;
