//! The key of a token, together with the token's hash.

use std::sync::Arc;

use http::HeaderValue;

use super::{key::DpopKey, thumbprint::hash};
use crate::{
    boxed::BoxFuture,
    client_credentials::{
        AccessToken, TokenError,
        prover::{ProofTarget, Prover},
    },
};

/// Makes the proofs of one token. No proof is made without the token's hash (`ath`, RFC 9449 §4.2).
#[derive(Debug)]
struct BoundKey {
    /// The key that the token is bound to.
    key: DpopKey,
    /// Hash of the token.
    token_hash: String,
}

impl AccessToken {
    /// Binds the token to `key` (RFC 9449): it is sent with the scheme `DPoP`, and with a proof for each attempt.
    /// Default: none, a bearer token.
    ///
    /// For a source of your own. [`TokenEndpoint::dpop`](super::super::TokenEndpoint::dpop) does it by itself.
    #[must_use]
    pub fn bound_to(self, key: DpopKey) -> Self {
        let bound = BoundKey {
            key,
            token_hash: hash(self.as_bytes()),
        };
        self.with_prover(bound)
    }
}

impl Prover for BoundKey {
    fn prove(
        self: Arc<Self>,
        target: ProofTarget,
    ) -> BoxFuture<'static, Result<HeaderValue, TokenError>> {
        Box::pin(async move { self.key.prove(&target, Some(&self.token_hash)).await })
    }
}
