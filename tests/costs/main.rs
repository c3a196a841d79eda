//! What is promised of costs: they are reserved before a request is sent and settled once, however it ends.

#[path = "../support/mod.rs"]
mod support;

mod limits;
mod settlement;
mod usage;
mod world;
