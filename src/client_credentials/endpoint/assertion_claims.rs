//! Claims of an assertion that is a grant (RFC 7523 §3).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::TokenRequest;
use crate::{client_credentials::TokenError, random::unique};

/// Claims of an assertion that [`Grant::signed_jwt`](super::Grant::signed_jwt) signs (RFC 7523 §3).
///
/// | claim | value | setting |
/// |---|---|---|
/// | `iss` | the issuer | [`new`](Self::new) |
/// | `sub` | the issuer | [`subject`](Self::subject) |
/// | `aud` | that of client assertions: the issuer of the endpoint, or `assertion_audience` | [`audience`](Self::audience) |
/// | `iat`, `exp` | now, and 60 s later | [`lifetime`](Self::lifetime) |
/// | `jti` | 128 random bits, new for every attempt | |
/// | any other | | [`claim`](Self::claim) |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::client_credentials::AssertionClaims;
///
/// // Salesforce.
/// let claims = AssertionClaims::new("consumer key")
///     .subject("integration@example.com")
///     .audience("https://login.salesforce.com")
///     .lifetime(Duration::from_secs(180));
/// // Box.
/// let claims = AssertionClaims::new("client id")
///     .subject("enterprise id")
///     .claim("box_sub_type", "enterprise");
/// # drop(claims);
/// ```
#[derive(Clone)]
#[must_use = "pass it to `Grant::signed_jwt`"]
pub struct AssertionClaims {
    /// Audience; `None` for that of client assertions.
    audience: Option<String>,
    /// Lifetime of an assertion.
    lifetime: Duration,
    /// `typ` of the header; `None` for a header without it.
    typ: Option<String>,
    /// Whether the scopes of the endpoint are a claim.
    scope_claim: bool,
    /// Fixed claims. `null` leaves a claim out.
    fixed: Map<String, Value>,
}

impl AssertionClaims {
    /// Creates claims whose `iss` and `sub` are `issuer`: the client id, or another name that the server knows the key
    /// by.
    pub fn new(issuer: impl Into<String>) -> Self {
        let issuer = issuer.into();
        Self {
            audience: None,
            lifetime: DEFAULT_LIFETIME,
            typ: Some("JWT".to_owned()),
            scope_claim: false,
            fixed: Map::new(),
        }
        .claim("iss", issuer.as_str())
        .claim("sub", issuer)
    }

    /// Sets the `sub`: the account that the token is for. Default: the issuer.
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.claim("sub", subject.into())
    }

    /// Sets the `aud`. Default: the audience of client assertions, which is the issuer of the endpoint, or
    /// [`TokenEndpoint::assertion_audience`](super::TokenEndpoint::assertion_audience).
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Sets the time from `iat` to `exp`. Default: 60 s.
    ///
    /// Raise it if the clock of this machine may be behind. Servers have an upper bound, often a few minutes.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets the `typ` of the header. Default: `JWT`. draft-ietf-oauth-rfc7523bis names `authorization-grant+jwt`.
    pub fn typ(mut self, typ: impl Into<String>) -> Self {
        self.typ = Some(typ.into());
        self
    }

    /// Puts the [scopes](super::TokenEndpoint::scope) of the endpoint into the claim `scope`, separated by spaces,
    /// instead of the parameter `scope`. Google and DocuSign expect this. Default: off.
    pub fn scope_claim(mut self, scope_claim: bool) -> Self {
        self.scope_claim = scope_claim;
        self
    }

    /// Sets a claim to a fixed value. `null` leaves the claim out, also one of those above. Default: no further claims.
    ///
    /// The values are sent to the server in the clear. They are not printed by `Debug`.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fixed.insert(name.into(), value.into());
        self
    }

    /// Returns whether the scopes of the endpoint are a claim.
    pub(super) fn takes_scopes(&self) -> bool {
        self.scope_claim
    }

    /// Returns the `typ` of the header.
    pub(super) fn header_typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// Returns whether the audience of the request is needed.
    pub(super) fn needs_audience(&self) -> bool {
        self.audience.is_none() && !self.fixed.contains_key("aud")
    }

    /// Returns the claims of the assertion for `request`. Each call has a new `jti`, because a server may reject one
    /// that it has seen (RFC 7523 §3, item 7).
    ///
    /// # Errors
    ///
    /// A configuration error, if the audience is unknown.
    pub(super) fn of(
        &self,
        request: &TokenRequest,
        scopes: &[String],
        no_audience: &'static str,
    ) -> Result<Value, TokenError> {
        let mut claims = Map::new();
        if self.needs_audience() || self.audience.is_some() {
            let audience = self.audience.as_deref().or_else(|| request.audience());
            let audience = audience.ok_or_else(|| TokenError::configuration(no_audience))?;
            claims.insert("aud".to_owned(), audience.into());
        }
        // A clock before 1970 yields 0, which every server rejects as expired.
        let now = request
            .wall_clock()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let jti = URL_SAFE_NO_PAD.encode(unique().to_be_bytes());
        let expires = now.saturating_add(self.lifetime);
        claims.insert("iat".to_owned(), now.as_secs().into());
        claims.insert("exp".to_owned(), expires.as_secs().into());
        claims.insert("jti".to_owned(), jti.into());
        if self.scope_claim && !scopes.is_empty() {
            claims.insert("scope".to_owned(), scopes.join(" ").into());
        }
        claims.extend(self.fixed.clone());
        claims.retain(|_, value| !value.is_null());
        Ok(Value::Object(claims))
    }

    /// Returns everything that distinguishes the assertions of two claims, apart from time and `jti`.
    pub(super) fn canonical(&self) -> String {
        Value::from_iter([
            ("fixed", Value::Object(self.fixed.clone())),
            ("audience", self.audience.as_deref().into()),
            ("typ", self.typ.as_deref().into()),
            ("scope", self.scope_claim.into()),
        ])
        .to_string()
    }
}

/// Prints the names of the claims only.
impl fmt::Debug for AssertionClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertionClaims")
            .field("claims", &self.fixed.keys().collect::<Vec<_>>())
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// Default lifetime of an assertion. Tolerates a clock that is some seconds off, and is too short for a stolen
/// assertion to be useful.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
