//! The token store on a real Redis, which the tests start themselves, each its own: `cargo test --features redis --test
//! redis`. It needs `redis-server` in the path (Debian, Ubuntu: `apt-get install redis-server`; macOS: `brew install
//! redis`).
#![cfg(feature = "redis")]

mod operations;
mod outage;
mod server;
mod world;
