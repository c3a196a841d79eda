//! Many processes that share a token store: each is a layer of its own, on tokio's paused clock.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod cache_key;
mod outage;
mod sharing;
mod world;
