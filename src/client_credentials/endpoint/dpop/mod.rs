//! Sender-constrained tokens (RFC 9449): keys, proofs and the settings of an endpoint.
//!
//! | file | contents |
//! |---|---|
//! | `settings` | which key a [`TokenEndpoint`](super::TokenEndpoint) uses, and what follows from a bearer token |
//! | `key` | a key and its public half |
//! | `thumbprint` | canonical JWK and its hash (RFC 7638) |
//! | `claims` | header and claims of a proof |
//! | `bound` | the prover of a token, which knows the token's hash |
//!
//! The nonces and clocks of servers are in `proof_servers`, and the proofs of attempts at an API in `proof`.

mod bound;
mod claims;
mod key;
mod settings;
mod thumbprint;

pub use self::{key::DpopKey, settings::Dpop};
