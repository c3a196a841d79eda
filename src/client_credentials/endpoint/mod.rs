//! A [`TokenSource`](super::TokenSource) for OAuth 2.0 token endpoints (RFC 6749 §3.2), over any tower service.
//!
//! A fetch passes through these modules:
//!
//! - `retry`: retries, and the fallback credentials.
//! - `fetch`: one attempt.
//! - `discovery`: the endpoint's URL, if only the issuer or the API is configured.
//! - `grant`, with `signed_grant`, `assertion_claims`, `token_exchange`, `identity_assertion`, `custom_grant` and
//!   `google`, and `auth`: the parameters and headers of the request. `scoped` replaces the scopes of one request.
//! - `fetch_key` and `dpop`: the key of a token that is bound to one, and the proofs.
//! - `certificate_bound` and `certificate_check`: the certificate of a token that is bound to one.
//! - `transport`, `client`, `default_client`, `connector`, `proxy` and `tls`: the HTTP client.
//! - `response`: the token in the response, or the error.
//!
//! `builder` and `validate` configure and validate the endpoint. `cache_key` computes its cache key, and `revocation`
//! revokes a token.
//!
//! # One fetch
//!
//! ```text
//! fetch ─▶ validate ─▶ client.ready ─▶ attempt ── token ─▶ events, fallback set ─▶ out
//!                                        │  ▲
//!                                        │  ├─ transient, retries left: wait, then again
//!                                        │  ├─ invalid_client, secret replaced meanwhile: again at once
//!                                        │  └─ invalid_client, fallback available: again at once, with the fallback
//!                                        └─ anything else ─▶ error
//! ```
//!
//! An endpoint is a value: clones share secrets, discovered metadata, connections and reported warnings. A clone whose
//! roots or certificate are set afterwards has connections of its own. An endpoint holds no token and no task; both
//! belong to the layer.

#[cfg(feature = "jwt")]
mod assertion_claims;
mod auth;
#[cfg(any(feature = "dpop", feature = "https"))]
mod bearer_answer;
mod builder;
mod cache_key;
mod cause;
#[cfg(feature = "https")]
mod certificate;
#[cfg(feature = "https")]
mod certificate_bound;
mod certificate_check;
mod claims;
mod client;
#[cfg(feature = "https")]
mod connector;
mod custom_grant;
#[cfg(feature = "https")]
mod default_client;
mod discovery;
#[cfg(feature = "dpop")]
mod dpop;
mod fetch;
mod fetch_key;
mod form;
#[cfg(feature = "jwt")]
mod google;
mod grant;
#[cfg(feature = "https")]
mod identity;
mod identity_assertion;
#[cfg(any(feature = "https", feature = "jwt"))]
pub(super) mod pem;
#[cfg(feature = "https")]
mod proxy;
mod response;
mod retry;
mod revocation;
mod scoped;
mod secret;
#[cfg(feature = "jwt")]
mod signed_grant;
#[cfg(feature = "https")]
pub(super) mod tls;
mod token_exchange;
mod transport;
mod validate;
mod warnings;
#[cfg(feature = "https")]
mod x5t;

use std::{fmt, sync::Arc, time::Duration};

use http::Uri;

#[cfg(any(feature = "dpop", feature = "https"))]
pub use self::bearer_answer::BearerAnswer;
#[cfg(feature = "https")]
pub use self::certificate_bound::{CertificateBound, CertificateMismatch};
#[cfg(feature = "client")]
pub(crate) use self::connector::Connector;
#[cfg(feature = "dpop")]
pub use self::dpop::{Dpop, DpopKey};
#[cfg(feature = "https")]
pub use self::proxy::Proxy;
#[cfg(feature = "jwt")]
pub use self::{
    assertion_claims::AssertionClaims,
    auth::{CertificateHeader, KeyAlgorithm, SecretAlgorithm, SignError, Signer, SigningKey},
    google::GoogleServiceAccount,
};
pub use self::{
    auth::{AssertionAudience, ClientAuth, ClientAuthentication, TokenRequest},
    discovery::ProtectedResource,
    grant::Grant,
    identity_assertion::IdentityAssertion,
    revocation::RevocationEndpoint,
    secret::{SecretFile, SecretSource, SecretVariable},
    token_exchange::TokenExchange,
};
use self::{
    client::Client,
    discovery::{Discovery, ResourceDiscovery},
    form::Form,
    warnings::Warnings,
};
pub(super) use self::{secret::trim, validate::REPEATABLE, warnings::report_trimmed};

/// An authorization server's token endpoint, from which tokens are requested.
///
/// The grant is `client_credentials` (RFC 6749 §4.4), or another [`Grant`].
///
/// Token requests are `POST`s with a form, over https. Plain http is allowed to loopback only. Redirects are never
/// followed. Invalid settings, such as an http URL, an empty client id or a parameter that is set twice, are reported
/// by [`validate`](Self::validate), or as a permanent [`TokenError`](super::TokenError) at the first use; then nothing
/// is sent.
///
/// # Responses
///
/// Responses are read leniently, and [`TokenEvent::NonConformingResponse`](super::TokenEvent::NonConformingResponse)
/// reports each deviation:
///
/// - `expires_in` may be a number, a string, a float or a date. If it is missing, the first of these applies:
///   `expires_on`, `expires_at`, `exp`, `expires`, the `exp` of a JWT, and
///   [`default_lifetime`](Self::default_lifetime). Dates are relative to the response's own `Date`.
/// - A JWT that expires earlier than the response says is used until its own `exp`.
/// - `token_type` may be missing or in any case. A type other than Bearer is an error, unless it is allowed with
///   [`bearer_type`](Self::bearer_type).
/// - A non-empty `error` member is an error, whatever the status.
/// - 429 and 5xx are transient, whatever the body says.
///
/// A response may have at most 1 MiB.
///
/// # Errors
///
/// A fetch fails with a [`TokenError`](super::TokenError) whose [`kind`](super::TokenError::kind) says what to do:
///
/// - a wrong configuration, key or certificate: [`Configuration`](super::TokenErrorKind::Configuration),
///   [`Certificate`](super::TokenErrorKind::Certificate), [`Discovery`](super::TokenErrorKind::Discovery)
/// - a rejection by the server: [`InvalidClient`](super::TokenErrorKind::InvalidClient),
///   [`InvalidScope`](super::TokenErrorKind::InvalidScope), [`Rejected`](super::TokenErrorKind::Rejected)
/// - a failure that may disappear by itself: [`Transport`](super::TokenErrorKind::Transport),
///   [`Timeout`](super::TokenErrorKind::Timeout), [`Server`](super::TokenErrorKind::Server),
///   [`Throttled`](super::TokenErrorKind::Throttled)
/// - a response without a usable token: [`InvalidResponse`](super::TokenErrorKind::InvalidResponse)
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, TokenEndpoint};
///
/// let auth = ClientAuth::basic("orders", "secret");
/// let endpoint =
///     TokenEndpoint::new("https://issuer.example/token".parse()?, auth).scope("orders.read");
/// # drop(endpoint);
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
#[doc(alias(
    "Keycloak",
    "Auth0",
    "Okta",
    "Entra",
    "Cognito",
    "OIDC",
    "OpenID Connect",
    "authorization server"
))]
#[derive(Clone)]
pub struct TokenEndpoint {
    /// URL of the endpoint, or the issuer that names it.
    location: Location,
    /// Issuer identifier, the default audience of signed assertions.
    issuer: Option<Arc<str>>,
    /// Client authentication.
    auth: ClientAuth,
    /// Grant of the token requests.
    grant: Grant,
    /// Audience of signed assertions. Default: the issuer.
    assertion_audience: AssertionAudience,
    /// Whether signed assertions carry a specific `typ`. Default: `true`.
    assertion_typ: bool,
    /// Scopes to request, without duplicates. If there are none, those that the resource names.
    scopes: Vec<String>,
    /// Scopes to request in addition.
    added_scopes: Vec<String>,
    /// Additional parameters.
    parameters: Form,
    /// Lifetime of a token whose response has none. Default: one hour.
    default_lifetime: Duration,
    /// Token types that count as Bearer.
    bearer_types: Vec<String>,
    /// Whether non-conforming responses are errors. Default: `false`.
    strict: bool,
    /// Maximum number of retries within one fetch. Default: 2.
    retries: u32,
    /// Revocation endpoint for shutdown. `None` if tokens are not revoked.
    revocation: Option<RevocationEndpoint>,
    /// Audience of signed assertions in revocation requests. `None` means that of token requests.
    revocation_audience: Option<AssertionAudience>,
    /// Settings of sender-constrained tokens. `None` for bearer tokens.
    #[cfg(feature = "dpop")]
    dpop: Option<Dpop>,
    /// Settings of tokens that are bound to a certificate. `None` if they are not requested.
    #[cfg(feature = "https")]
    certificate_bound: Option<CertificateBound>,
    /// Whether plain http is allowed to any host. Default: `false`.
    allow_http: bool,
    /// HTTP client.
    client: Client,
    /// Peculiarities of the settings, reported by the first fetch.
    warnings: Warnings,
}

/// Location of the token endpoint.
///
/// Fixed when the endpoint is created. A discovered location is resolved by each attempt, from the cache of its
/// [`Discovery`] or [`ResourceDiscovery`].
#[derive(Clone)]
enum Location {
    /// The endpoint is named by the issuer's metadata.
    Discovered(Discovery),
    /// The endpoint is named by the metadata of the issuer that the metadata of the API names.
    Resource(ResourceDiscovery),
    /// The endpoint's URL is configured.
    Known(Uri),
}

/// Omits secrets, the issuer's query and the values of parameters.
impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint")
            .field("location", &self.redacted_uri())
            .field("auth", &self.auth)
            .field("grant", &self.grant)
            .field("scopes", &self.scopes)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}
