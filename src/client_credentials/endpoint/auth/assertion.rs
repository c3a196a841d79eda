//! Assertions as client authentication (RFC 7521 §4.2): how an assertion is sent, and assertions that are issued
//! elsewhere.
//!
//! The assertion is read for every attempt, because its issuer replaces it before it expires.

use super::{
    super::secret::SecretSource,
    client_authentication::{ClientAuthentication, validate_id},
    request::TokenRequest,
};
use crate::{
    client_credentials::{CacheKey, TokenError, endpoint::secret::BoxSecretSource},
    secret::Secret,
};

/// Client authentication with an assertion that is issued elsewhere.
///
/// The assertion is a bearer credential: it is redacted from errors like a secret. It is not parsed, because its
/// lifetime and its claims are the concern of its issuer.
pub(super) struct PreissuedAssertion {
    /// Client identifier.
    id: String,
    /// Source of the assertion.
    assertion: BoxSecretSource,
    /// Value of `client_assertion_type`.
    assertion_type: String,
}

impl PreissuedAssertion {
    /// Creates the method from the client identifier, the assertion's source and its type.
    pub(super) fn new(
        id: impl Into<String>,
        assertion: impl SecretSource,
        assertion_type: impl Into<String>,
    ) -> Self {
        Self {
            id: id.into(),
            assertion: BoxSecretSource::new("client assertion", assertion),
            assertion_type: assertion_type.into(),
        }
    }
}

impl ClientAuthentication for PreissuedAssertion {
    async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        let assertion = request.read(&self.assertion).await?;
        request.advice = Some(
            "check the client id, that the assertion's issuer, subject and audience match those registered at the \
             server, and that the assertion has not expired",
        );
        assert_client(request, &self.id, &self.assertion_type, assertion);
        Ok(())
    }

    async fn changed(&self) -> bool {
        self.assertion.changed().await
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        let assertion = self.assertion.peek().await?;
        Some(
            CacheKey::new(&self.assertion_type)
                .field("client_id", &self.id)
                .field("assertion", assertion.expose()),
        )
    }

    fn validate(&self) -> Result<(), TokenError> {
        validate_id(&self.id)
    }
}

/// Adds the parameters of an assertion (RFC 7521 §4.2), and redacts the assertion from errors.
///
/// `client_id` is optional in RFC 7521 §4.2, but some servers find the client by it.
pub(super) fn assert_client(
    request: &mut TokenRequest,
    id: &str,
    assertion_type: &str,
    assertion: Secret,
) {
    request.parameter("client_id", id);
    request.parameter("client_assertion_type", assertion_type);
    request.parameter("client_assertion", assertion.expose());
    request.redact(assertion);
}
