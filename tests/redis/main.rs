//! The token store and the quota store on a real Redis, which the tests start themselves, each its own: `cargo test --features redis --test
//! redis`. It needs `redis-server` in the path (Debian, Ubuntu: `apt-get install redis-server`; macOS: `brew install
//! redis`), version 7 or newer for the tests with a cluster.
#![cfg(feature = "redis")]

mod cluster;
mod clusters;
mod conformance;
mod fleet;
mod operations;
mod outage;
mod quota_outage;
mod quotas;
mod server;
#[cfg(feature = "redis-tls")]
mod tls;
mod world;
