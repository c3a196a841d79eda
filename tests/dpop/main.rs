//! Tokens that are bound to a key (RFC 9449), at an authorization server and an API that check every proof.
#![cfg(all(
    feature = "dpop",
    feature = "jwt-aws-lc-rs",
    feature = "jwt-rust-crypto"
))]

mod api;
mod combined;
mod keys;
mod kit;
mod properties;
mod published;
mod sharing;
mod signers;
mod spellings;
#[path = "../support/mod.rs"]
mod support;
mod token_endpoint;
mod world;
