//! Guarantees of costs: they are reserved before a request is sent and settled once, whatever its outcome.

#[path = "../support/mod.rs"]
mod support;

mod limits;
mod settlement;
mod usage;
mod world;
