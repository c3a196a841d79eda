//! Non-conforming responses of real authorization servers and APIs, one test for each.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod authentication;
mod error_responses;
mod fetch;
mod in_use;
mod lifetimes;
