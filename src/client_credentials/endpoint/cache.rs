//! What tells the tokens of one configuration from those of all others.

use super::{
    AssertionAudience, Location, TokenEndpoint, auth::ClientAuthentication, transport::Certificate,
};
use crate::client_credentials::CacheIdentity;

impl TokenEndpoint {
    /// Everything that makes a difference to what is granted. `None` if something of that is not known: a way to
    /// authenticate that declares no identity, a secret that cannot be read, a certificate that only the HTTP client has.
    pub(super) async fn identify(&self) -> Option<CacheIdentity> {
        let certificate = self.client.certificate().await;
        let shows_one = self
            .auth
            .methods()
            .iter()
            .any(|name| name.contains("tls_client_auth"));
        if certificate == Certificate::Unknown && shows_one {
            return None;
        }
        let identity = CacheIdentity::new("token endpoint");
        let identity = match &self.location {
            Location::Known(uri) => identity.field("endpoint", uri.to_string()),
            Location::Discovered(discovery) => identity.field("discovered", discovery.issuer()),
        };
        let identity = identity
            .field("issuer", self.issuer.as_deref().unwrap_or_default())
            .nested("grant", &self.grant.identify().await?)
            .nested("auth", &self.auth.cache_identity().await?);
        let identity = match &certificate {
            Certificate::None => identity.field("certificate", "none"),
            Certificate::Unknown => identity.field("certificate", "unknown"),
            Certificate::Known(content) => identity
                .field("certificate", "known")
                .field("content", content),
        };
        let identity = match &self.assertion_audience {
            AssertionAudience::Issuer => identity.field("audience of assertions", "issuer"),
            // The same for a token.
            AssertionAudience::TokenEndpoint | AssertionAudience::RequestedEndpoint => {
                identity.field("audience of assertions", "endpoint")
            }
            AssertionAudience::Other(other) => identity.field("other audience", other.as_bytes()),
        };
        // RFC 6749 §3.3: the order of scopes does not matter.
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
        let lifetime = self.default_lifetime.as_millis().to_be_bytes();
        Some(identity.field("default lifetime", lifetime))
    }
}
