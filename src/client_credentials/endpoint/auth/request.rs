//! The token request that client authentication completes.

use std::{fmt, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio::time::Instant;

use super::super::{
    form::Form,
    response::place,
    secret::{SharedSecret, UsedSecrets},
};
use crate::{client_credentials::TokenError, secret::Secret};

/// A token request, before it is sent. A [`ClientAuthentication`](super::ClientAuthentication) adds to it.
///
/// `Debug` shows the names of what is in it, and no values.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{ClientAuthentication, TokenError, TokenRequest};
///
/// /// An assertion that a signing service makes.
/// struct Signed;
///
/// impl ClientAuthentication for Signed {
///     async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
///         let assertion = sign(request.audience(), request.wall()).await;
///         request.parameter("client_id", "my-client");
///         request.parameter("client_assertion_type", tower_m2m::ClientAuth::JWT_BEARER);
///         request.parameter("client_assertion", assertion.as_str());
///         request.redact(assertion);
///         Ok(())
///     }
///
///     fn needs_audience(&self) -> bool {
///         true
///     }
/// }
/// # async fn sign(_: Option<&str>, _: std::time::SystemTime) -> String { String::new() }
/// ```
#[derive(Debug)]
pub struct TokenRequest {
    pub(in super::super) headers: HeaderMap,
    pub(in super::super) form: Form,
    /// What to look at if these credentials are refused.
    pub(in super::super) advice: Option<&'static str>,
    /// Never to appear in what the server's answer is quoted for.
    pub(in super::super) secrets: Vec<Secret>,
    pub(in super::super) used: UsedSecrets,
    target: Target,
}

/// Whom a token request is for.
pub(in super::super) struct Target {
    pub(in super::super) token_endpoint: Uri,
    pub(in super::super) audience: Option<Arc<str>>,
    pub(in super::super) method: Option<&'static str>,
    /// Whether an assertion says `typ: client-authentication+jwt`.
    #[cfg_attr(not(feature = "jwt"), expect(dead_code))]
    pub(in super::super) typed: bool,
    pub(in super::super) now: Instant,
    pub(in super::super) wall: SystemTime,
    /// When the attempt is given up.
    #[cfg_attr(not(feature = "jwt"), expect(dead_code))]
    pub(in super::super) deadline: Instant,
}

/// Whom a signed assertion names as its audience (`aud`).
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::{AssertionAudience, SecretFile}};
///
/// # fn main() -> Result<(), http::uri::InvalidUri> {
/// # let auth = ClientAuth::assertion("my-client", SecretFile::new("/run/secrets/assertion"));
/// let endpoint = TokenEndpoint::new("https://issuer.example/oauth/token".parse()?, auth)
///     .assertion_audience(AssertionAudience::TokenEndpoint);
/// # drop(endpoint);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum AssertionAudience {
    /// The issuer's identifier and nothing else, as draft-ietf-oauth-rfc7523bis asks. The default.
    #[default]
    Issuer,
    /// The URL of the token endpoint, as older servers want it (RFC 7523 §3).
    TokenEndpoint,
    /// The URL of the endpoint that the request goes to: the token endpoint's for a token, the revocation endpoint's for a
    /// revocation.
    RequestedEndpoint,
    /// This text.
    Other(Arc<str>),
}

impl TokenRequest {
    /// The secret to send: see [`UsedSecrets::read`].
    pub(in super::super) async fn read(
        &mut self,
        secret: &SharedSecret,
    ) -> Result<Secret, TokenError> {
        let now = self.now();
        self.used.read(secret, now).await
    }

    pub(in super::super) fn new(form: Form, target: Target) -> Self {
        Self {
            headers: HeaderMap::new(),
            form,
            advice: None,
            secrets: Vec::new(),
            used: UsedSecrets::default(),
            target,
        }
    }

    /// Where the request goes.
    #[must_use]
    pub fn token_endpoint(&self) -> &Uri {
        &self.target.token_endpoint
    }

    /// The audience for an assertion: the issuer, unless
    /// [`TokenEndpoint::assertion_audience`](super::super::TokenEndpoint::assertion_audience) says otherwise. `None` if
    /// the issuer is not known.
    #[must_use]
    pub fn audience(&self) -> Option<&str> {
        self.target.audience.as_deref()
    }

    /// The one of [`ClientAuthentication::methods`](super::ClientAuthentication::methods) to carry out; the first one,
    /// where the server's offer is not known.
    #[must_use]
    pub fn method(&self) -> Option<&'static str> {
        self.target.method
    }

    /// The civil time, by the layer's clock.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        self.target.wall
    }

    pub(in super::super) fn now(&self) -> Instant {
        self.target.now
    }

    /// Sets a header. Mark the value sensitive if it is a secret.
    pub fn header(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    /// Adds a parameter to the form. A name that is there already makes the request fail before it is sent
    /// (RFC 6749 §3.2).
    pub fn parameter(&mut self, name: impl Into<String>, value: impl Into<Secret>) {
        self.form.push(name, value);
    }

    /// Has `secret` replaced wherever the server's answer is quoted.
    pub fn redact(&mut self, secret: impl Into<Secret>) {
        self.secrets.push(secret.into());
    }

    #[cfg(feature = "jwt")]
    pub(super) fn deadline(&self) -> Instant {
        self.target.deadline
    }

    #[cfg(feature = "jwt")]
    pub(super) fn is_typed(&self) -> bool {
        self.target.typed
    }
}

/// Without the endpoint's query, which the audience may repeat.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("token_endpoint", &place(&self.token_endpoint))
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl From<&str> for AssertionAudience {
    fn from(audience: &str) -> Self {
        Self::Other(audience.into())
    }
}

impl From<String> for AssertionAudience {
    fn from(audience: String) -> Self {
        Self::Other(audience.into())
    }
}
