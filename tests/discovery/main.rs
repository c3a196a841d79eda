//! How the token endpoint is found from the issuer, and what its metadata may and may not change.

#[path = "../support/mod.rs"]
mod support;

mod methods;
mod places;
mod renewals;
mod world;
