//! How the authorization server is found by the API (RFC 9728), and what the API's metadata may and may not do.

#[path = "../support/mod.rs"]
mod support;

mod api;
mod bad_input;
mod found;
mod renewal;
mod world;
