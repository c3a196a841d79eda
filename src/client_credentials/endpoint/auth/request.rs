//! The token request that client authentication completes.
//!
//! The request carries everything that a method may need: where it goes, when, for whom, and by which deadline. A
//! method reads these values and adds headers and parameters.

use std::{fmt, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio::time::Instant;

use super::super::{
    form::Form,
    response::redacted_uri,
    secret::{BoxSecretSource, UsedSecrets},
};
use crate::{client_credentials::TokenError, secret::Secret};

/// A token request before it is sent. A [`ClientAuthentication`](super::ClientAuthentication) adds credentials to it.
///
/// `Debug` prints names only, not values.
///
/// Created for each attempt and dropped with it. The HTTP method and the destination cannot be changed.
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
///         let assertion = sign(request.audience(), request.wall_clock()).await;
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
    /// Headers to send.
    pub(in super::super) headers: HeaderMap,
    /// Parameters to send.
    pub(in super::super) form: Form,
    /// What to check if the server rejects these credentials.
    pub(in super::super) advice: Option<&'static str>,
    /// Values that are redacted from quotations of the server's response.
    pub(in super::super) secrets: Vec<Secret>,
    /// Secrets that this request has read, of which a success makes the fallback.
    pub(in super::super) used: UsedSecrets,
    /// Whether the assertion of the grant has been used before, so that a new one may be accepted.
    pub(in super::super) reuses_assertion: bool,
    /// Whether the token belongs to another cache key than that of the endpoint, so that it must not be shared.
    pub(in super::super) is_private: bool,
    /// Destination and time of the request.
    target: Target,
}

/// Destination and time of a token request.
pub(in super::super) struct Target {
    /// URL of the token endpoint.
    pub(in super::super) token_endpoint: Uri,
    /// Audience of an assertion, if it is known.
    pub(in super::super) audience: Option<Arc<str>>,
    /// Selected authentication method.
    pub(in super::super) method: Option<&'static str>,
    /// Whether an assertion has `typ: client-authentication+jwt`.
    #[cfg_attr(not(feature = "jwt"), expect(dead_code))]
    pub(in super::super) typed: bool,
    /// Time of the attempt.
    pub(in super::super) now: Instant,
    /// Time of the attempt by the wall clock.
    pub(in super::super) wall: SystemTime,
    /// Deadline of the attempt.
    #[cfg_attr(not(feature = "jwt"), expect(dead_code))]
    pub(in super::super) deadline: Instant,
}

/// The audience (`aud`) of a signed assertion.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     ClientAuth, TokenEndpoint,
///     client_credentials::{AssertionAudience, SecretFile},
/// };
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
    /// The issuer identifier as the only value (draft-ietf-oauth-rfc7523bis). The default.
    #[default]
    Issuer,
    /// The URL of the token endpoint, which older servers require (RFC 7523 §3).
    TokenEndpoint,
    /// The URL of the endpoint that receives the request: the token endpoint for a token request, the revocation
    /// endpoint for a revocation.
    RequestedEndpoint,
    /// This text.
    Other(Arc<str>),
}

impl TokenRequest {
    /// Reads a secret to send; see [`UsedSecrets::read`].
    ///
    /// # Errors
    ///
    /// The error of the source, if there is no fallback.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the read. The secret is then not recorded as used.
    pub(in super::super) async fn read(
        &mut self,
        secret: &BoxSecretSource,
    ) -> Result<Secret, TokenError> {
        let now = self.now();
        self.used.read(secret, now).await
    }

    /// Creates a request without headers.
    pub(in super::super) fn new(form: Form, target: Target) -> Self {
        Self {
            headers: HeaderMap::new(),
            form,
            advice: None,
            secrets: Vec::new(),
            used: UsedSecrets::default(),
            reuses_assertion: false,
            is_private: false,
            target,
        }
    }

    /// Returns the URL of the token endpoint.
    #[must_use]
    pub fn token_endpoint(&self) -> &Uri {
        &self.target.token_endpoint
    }

    /// Returns the audience for an assertion: the issuer, unless
    /// [`TokenEndpoint::assertion_audience`](super::super::TokenEndpoint::assertion_audience) sets another one. `None`
    /// if the issuer is unknown.
    #[must_use]
    pub fn audience(&self) -> Option<&str> {
        self.target.audience.as_deref()
    }

    /// Returns the method to use, one of [`ClientAuthentication::methods`](super::ClientAuthentication::methods). If
    /// the methods of the server are unknown, it is the first one.
    #[must_use]
    pub fn method(&self) -> Option<&'static str> {
        self.target.method
    }

    /// Returns the wall clock time, by the layer's clock.
    ///
    /// Use it instead of the system's clock, so that tests with a clock of their own see the same time in the
    /// assertion.
    #[must_use]
    pub fn wall_clock(&self) -> SystemTime {
        self.target.wall
    }

    /// Returns the time of the attempt, by the layer's clock.
    pub(in super::super) fn now(&self) -> Instant {
        self.target.now
    }

    /// Sets a header. Mark a secret value as sensitive.
    ///
    /// Replaces an earlier value of the same name. A `Content-Type`, `Accept` or `User-Agent` set here takes precedence
    /// over that of the crate.
    pub fn header(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    /// Adds a parameter to the form. A duplicate name makes the request fail before it is sent (RFC 6749 §3.2).
    ///
    /// The order of calls is the order in the form. Parameters that were set before the authentication may not be set
    /// again.
    pub fn parameter(&mut self, name: impl Into<String>, value: impl Into<Secret>) {
        self.form.push(name, value);
    }

    /// Redacts `secret` wherever an error quotes the server's response.
    ///
    /// Secrets of fewer than four bytes are not redacted: they occur in any text. Call it for every secret that the
    /// request contains, also for one that is part of an encoded value.
    pub fn redact(&mut self, secret: impl Into<Secret>) {
        self.secrets.push(secret.into());
    }

    /// Returns the deadline of the attempt.
    #[cfg(feature = "jwt")]
    pub(super) fn deadline(&self) -> Instant {
        self.target.deadline
    }

    /// Returns whether an assertion has an explicit `typ`.
    #[cfg(feature = "jwt")]
    pub(super) fn is_typed(&self) -> bool {
        self.target.typed
    }
}

/// Omits the endpoint's query, and the audience, which may repeat it.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("token_endpoint", &redacted_uri(&self.token_endpoint))
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
