//! A [`TokenSource`] that speaks RFC 6749 §4.4 over any tower service.

mod attempts;
mod auth;
mod cache;
mod cause;
#[cfg(feature = "https")]
mod certificate;
mod check;
mod claims;
mod client;
mod discovery;
mod fetch;
mod form;
mod grant;
#[cfg(feature = "https")]
mod identity;
mod notes;
#[cfg(feature = "https")]
mod own;
#[cfg(any(feature = "https", feature = "jwt"))]
pub(super) mod pem;
mod response;
mod revocation;
mod secret;
mod settings;
#[cfg(feature = "https")]
pub(super) mod tls;
mod transport;

use std::{fmt, sync::Arc, time::Duration};

use http::Uri;

#[cfg(feature = "jwt")]
pub use self::auth::{KeyAlgorithm, SecretAlgorithm, SignError, Signer, SigningKey};
pub use self::{
    auth::{AssertionAudience, ClientAuth, ClientAuthentication, TokenRequest},
    grant::{Grant, TokenExchange},
    revocation::RevocationEndpoint,
    secret::{SecretFile, SecretSource, SecretVariable},
};
pub(super) use self::{check::REPEATABLE, notes::report_trimmed, secret::trim};
use self::{client::Client, discovery::Discovery, form::Form, notes::Notes};

/// An authorization server's token endpoint, asked with the `client_credentials` grant (RFC 6749 §4.4) or another [`Grant`].
///
/// Token requests are `POST`s with a form, over https (plain http is for loopback only). Redirects are never followed.
/// What is configured wrongly (an http URL, an empty client id, a scope with a quote in it) is told by
/// [`check`](Self::check), or by a permanent [`TokenError`](super::TokenError) at the first use; nothing is sent then.
///
/// Answers are read tolerantly: `expires_in` may be a number, a string, a float or a date, or be missing, and then
/// `expires_on` counts, `expires_at`, `exp`, `expires`, the `exp` of a JWT, and
/// [`default_lifetime`](Self::default_lifetime); dates are counted from the answer's own `Date`. A JWT whose `exp` is
/// earlier than the answer says lives until then. [`TokenEvent::QuirkMet`](super::TokenEvent::QuirkMet) tells what was odd; `token_type` may be missing or in any case, but a type other
/// than Bearer is an error, unless it is named with [`bearer_type`](Self::bearer_type); an `error` member that says
/// something is an error whatever the status; 429 and 5xx are transient whatever the
/// body says. An answer may have 1 MiB.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, TokenEndpoint};
///
/// let auth = ClientAuth::basic("orders", "secret");
/// let endpoint = TokenEndpoint::new("https://issuer.example/token".parse()?, auth).scope("orders.read");
/// # drop(endpoint);
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
#[derive(Clone)]
pub struct TokenEndpoint {
    location: Location,
    issuer: Option<Arc<str>>,
    auth: ClientAuth,
    grant: Grant,
    assertion_audience: AssertionAudience,
    assertion_typ: bool,
    scopes: Vec<String>,
    parameters: Form,
    default_lifetime: Duration,
    bearer_types: Vec<String>,
    strict: bool,
    retries: u32,
    revocation: Option<RevocationEndpoint>,
    /// That of tokens, if it is not set.
    revocation_audience: Option<AssertionAudience>,
    allow_http: bool,
    client: Client,
    notes: Notes,
}

#[derive(Clone)]
enum Location {
    Discovered(Discovery),
    Known(Uri),
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint")
            .field("location", &self.place())
            .field("auth", &self.auth)
            .field("grant", &self.grant)
            .field("scopes", &self.scopes)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}
