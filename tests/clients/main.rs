//! The layers over hyper-util's client, among those of tower and tower-http, on loopback. With clients of other crates:
//! `tests/compose`.

mod answers;
mod effects;
mod http2_server;
mod hyper_server;
mod orders;
#[cfg(feature = "https")]
mod over_tls;
mod retries;
mod spawned;
#[path = "../support/mod.rs"]
mod support;
mod unprocessed;
mod world;
