//! What the combined layer promises beyond what each of the two does.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod partitions;
mod replays;
mod uploads;
mod waits;
mod world;
