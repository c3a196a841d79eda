//! What is promised of rate limits, through the public API and in virtual time.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod deadlines;
mod holds;
mod partitions;
mod past_the_gate;
mod places;
mod refusals;
mod retries;
mod shown;
mod waiting;
mod world;
