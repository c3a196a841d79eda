//! The quirks of real authorization servers and APIs, one test for each.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod asking;
mod authentication;
mod in_use;
mod lifetimes;
mod refusals;
