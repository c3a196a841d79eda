//! The JWT bearer grant with an assertion that is signed here (RFC 7523 §2.1).

use std::sync::Arc;

use super::{AssertionClaims, Signer, TokenRequest, auth::JwsSigner, validate::NO_AUDIENCE};
use crate::client_credentials::{CacheKey, TokenError};

/// A signer and the claims that it signs. Cheap to clone.
#[derive(Clone)]
pub(super) struct SignedGrant {
    /// The signer, type-erased.
    signer: Arc<dyn JwsSigner>,
    /// Claims of the assertions.
    claims: Arc<AssertionClaims>,
}

impl SignedGrant {
    /// Creates the grant.
    pub(super) fn new(signer: impl Signer, claims: AssertionClaims) -> Self {
        Self {
            signer: Arc::new(signer),
            claims: Arc::new(claims),
        }
    }

    /// Signs an assertion and writes it.
    ///
    /// # Errors
    ///
    /// The error of the signer, or an unknown audience.
    pub(super) async fn write(
        &self,
        request: &mut TokenRequest,
        scopes: &[String],
    ) -> Result<(), TokenError> {
        let claims = self.claims.of(request, scopes, NO_AUDIENCE)?;
        let typ = self.claims.header_typ();
        let assertion = self.signer.sign_boxed(typ, &claims, request).await?;
        request.parameter("assertion", assertion.as_str());
        // A server may quote the assertion in its error.
        request.redact(assertion);
        Ok(())
    }

    /// Returns whether the key has changed.
    pub(super) async fn changed(&self) -> bool {
        self.signer.changed_boxed().await
    }

    /// Adds the key and the claims to a cache key. `None` if the signer has none.
    pub(super) async fn add_to_cache_key(&self, cache_key: CacheKey) -> Option<CacheKey> {
        let key = self.signer.cache_key_boxed().await?;
        let claims = self.claims.canonical();
        Some(cache_key.nested("key", &key).field("claims", claims))
    }

    /// Returns whether the scopes of the endpoint are part of the assertion.
    pub(super) fn takes_scopes(&self) -> bool {
        self.claims.takes_scopes()
    }

    /// Returns whether the audience of client assertions must be known.
    pub(super) fn needs_audience(&self) -> bool {
        self.claims.needs_audience()
    }

    /// Checks that this build can sign.
    pub(super) fn validate(&self) -> Result<(), TokenError> {
        self.signer.validate_of()
    }
}
