//! How the token endpoint is found from the issuer, and what its metadata may and may not change.

#[path = "../support/mod.rs"]
mod support;

mod metadata_urls;
mod methods;
mod refreshes;
mod world;
