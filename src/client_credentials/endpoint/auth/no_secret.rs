//! Methods without credentials in the request: `tls_client_auth`, `self_signed_tls_client_auth` and `none`.
//!
//! For the methods with a certificate the TLS connection carries the credentials. The client presents the certificate,
//! not this module.

use super::{
    client_authentication::{ClientAuthentication, validate_id},
    request::TokenRequest,
};
use crate::client_credentials::{CacheKey, TokenError};

/// Client authentication that sends the client id at most.
///
/// The advice names the certificate, because a rejection of such a client is practically always about its registration.
pub(super) struct NoSecret {
    /// Client identifier. `None` for an anonymous client.
    id: Option<String>,
    /// Registered name of the method. Empty for an anonymous client.
    methods: &'static [&'static str],
}

impl NoSecret {
    /// Creates a method that sends `id`.
    pub(super) fn new(id: impl Into<String>, methods: &'static [&'static str]) -> Self {
        Self {
            id: Some(id.into()),
            methods,
        }
    }

    /// Creates a method that sends nothing.
    pub(super) fn anonymous() -> Self {
        Self {
            id: None,
            methods: &[],
        }
    }
}

impl ClientAuthentication for NoSecret {
    async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        // `client_id` is required (RFC 8705 §2), because the certificate alone does not identify the client.
        if let Some(id) = &self.id {
            request.parameter("client_id", id.as_str());
        }
        request.advice = match self.methods {
            ["tls_client_auth"] => Some(
                "check the client id, and that the client is registered with the subject of the certificate that \
                 `.client_certificate(..)` or your client presents",
            ),
            ["self_signed_tls_client_auth"] => Some(
                "check the client id, and that the certificate that `.client_certificate(..)` or your client presents is registered",
            ),
            _ => Some("the server requires client authentication; choose a method of `ClientAuth`"),
        };
        Ok(())
    }

    fn methods(&self) -> &'static [&'static str] {
        self.methods
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        let method = self.methods.first().unwrap_or(&"anonymous");
        Some(CacheKey::new(method).field("client_id", self.id.as_deref().unwrap_or_default()))
    }

    fn validate(&self) -> Result<(), TokenError> {
        self.id.as_deref().map_or(Ok(()), validate_id)
    }
}
