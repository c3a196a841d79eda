//! The layers over hyper-util's client, among those of tower and tower-http, on loopback. With clients of other crates:
//! `tests/compose`.

mod answers;
mod effects;
mod hyper_server;
mod orders;
#[cfg(feature = "https")]
mod over_tls;
mod retries;
#[path = "../support/mod.rs"]
mod support;
mod world;
