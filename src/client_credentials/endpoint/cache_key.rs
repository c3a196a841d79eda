//! The cache key of a token endpoint's configuration.
//!
//! Two processes share a token only if their keys are equal. The key contains every setting that is sent to the server.
//! It does not contain settings that only affect this process, such as time limits.
//!
//! A key with too many fields costs a token request. One with too few lets a process use a token that was issued for
//! another client, scope or audience. So in doubt a setting is part of the key, and an unknown part makes the tokens
//! private to the process.
//!
//! Values are joined with their lengths, so that two configurations cannot collide by their concatenation. The key
//! contains secrets: it is zeroized on drop, and stores use it only as input of a keyed hash.

use super::{
    AssertionAudience, Location, TokenEndpoint, auth::ClientAuthentication, transport::Certificate,
};
use crate::store::CacheKey;

impl TokenEndpoint {
    /// Returns the cache key: everything that affects which token is issued.
    ///
    /// Returns `None` if a part is unknown: an authentication method without a cache key, an unreadable secret, or a
    /// certificate that only the HTTP client has.
    ///
    /// Called before and after a fetch through a store: a token is stored only if the secrets have not changed in
    /// between.
    ///
    /// Reads each secret with a limit of 5 s. Does not change which secrets count as used.
    pub(super) async fn compute_cache_key(&self) -> Option<CacheKey> {
        let certificate = self.client.certificate().await;
        // Only these methods authenticate with the certificate. For others an unknown one does not change the token.
        let shows_one = self
            .auth
            .methods()
            .iter()
            .any(|name| name.contains("tls_client_auth"));
        let certificate = match (certificate, self.bound_to().await) {
            (Certificate::Unknown, Some(known)) => known?,
            (certificate, _) => certificate,
        };
        if certificate == Certificate::Unknown && shows_one {
            return None;
        }
        // A new setting that affects the token must be added below.
        let identity = CacheKey::new("token endpoint");
        let identity = match &self.location {
            Location::Known(uri) => identity.field("endpoint", uri.to_string()),
            Location::Discovered(discovery) => identity.field("discovered", discovery.issuer()),
            Location::Resource(discovery) => discovery.add_to_cache_key(identity),
        };
        let identity = identity
            .field("issuer", self.issuer.as_deref().unwrap_or_default())
            .nested("grant", &self.grant.cache_key().await?)
            .nested("auth", &self.auth.cache_key().await?);
        let identity = match &certificate {
            Certificate::None => identity.field("certificate", "none"),
            Certificate::Unknown => identity.field("certificate", "unknown"),
            Certificate::Known(thumbprint) => identity
                .field("certificate", "known")
                .field("thumbprint", thumbprint.to_bytes()),
        };
        let identity = match &self.assertion_audience {
            AssertionAudience::Issuer => identity.field("audience of assertions", "issuer"),
            // Both name the same URL in a token request, so the token is the same.
            AssertionAudience::TokenEndpoint | AssertionAudience::RequestedEndpoint => {
                identity.field("audience of assertions", "endpoint")
            }
            AssertionAudience::Other(other) => identity.field("other audience", other.as_bytes()),
        };
        // The order of scopes is not significant (RFC 6749 §3.3), so it must not affect the key.
        let mut scopes = self.scopes.clone();
        scopes.sort_unstable();
        let identity = scopes
            .iter()
            .fold(identity, |identity, scope| identity.field("scope", scope));
        let identity = self
            .parameters
            .pairs()
            .fold(identity, |identity, (name, value)| {
                identity.field("parameter", name).field("value", value)
            });
        // A process that requires bound tokens must not use those of one that does not.
        #[cfg(feature = "https")]
        let identity = match &self.certificate_bound {
            Some(bound) if bound.requires_binding() => identity.field("binding", "certificate"),
            _ => identity,
        };
        // A token is useless without the key that it is bound to, so only processes with the same key share it.
        #[cfg(feature = "dpop")]
        let identity = match &self.dpop {
            Some(dpop) => identity.field("dpop", dpop.fixed_key()?.thumbprint()),
            None => identity,
        };
        // Affects the lifetime that is stored with the token.
        let lifetime = self.default_lifetime.as_millis().to_be_bytes();
        Some(identity.field("default lifetime", lifetime))
    }

    /// Returns the certificate of the API's client, if tokens are bound to one and it has a setting of its own. The
    /// inner `None` means that it cannot be read.
    #[cfg(feature = "https")]
    async fn bound_to(&self) -> Option<Option<Certificate>> {
        match self.certificate_bound.as_ref()?.api().await {
            Ok(api) => Some(api.map(Certificate::Known)),
            Err(_) => Some(None),
        }
    }

    /// Returns `None`: this build cannot request bound tokens.
    #[cfg(not(feature = "https"))]
    async fn bound_to(&self) -> Option<Option<Certificate>> {
        None
    }
}
