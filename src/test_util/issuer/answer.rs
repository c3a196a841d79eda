//! Successful token responses of an issuer.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value, json};

/// A format of successful token responses. Cheap to clone.
///
/// Real issuers differ in the fields that they add or omit; [`custom`](Self::custom) builds any of them.
///
/// # Examples
///
/// ```
/// use tower_m2m::test_util::{Answer, Issuer};
///
/// let issuer = Issuer::builder().client("id", "secret").answer(Answer::keycloak()).in_process();
/// # drop(issuer);
/// ```
#[derive(Clone)]
pub struct Answer(Arc<dyn Fn(&Grant<'_>) -> String + Send + Sync>);

/// The data of a token response, for an [`Answer`].
///
/// # Examples
///
/// ```
/// use tower_m2m::test_util::{Answer, Grant};
///
/// // An issuer that gives the lifetime as a text, and no `token_type`.
/// let answer = Answer::custom(|grant: &Grant<'_>| {
///     let (token, seconds) = (grant.access_token, grant.expires_in.as_secs());
///     format!(r#"{{"access_token":"{token}","expires_in":"{seconds}"}}"#)
/// });
/// # drop(answer);
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Grant<'a> {
    /// The new token.
    pub access_token: &'a str,
    /// Type of the token: `Bearer`, or `DPoP` for one that is bound to a key (RFC 9449 §5).
    pub token_type: &'static str,
    /// Client that the token is issued to.
    pub client_id: &'a str,
    /// `scope` parameter of the request.
    pub scope: Option<&'a str>,
    /// Lifetime of the token.
    pub expires_in: Duration,
    /// Time of issue, by the issuer's wall clock.
    pub issued_at: SystemTime,
    /// Origin of the issuer.
    pub issuer: &'a str,
}

impl Answer {
    /// Returns the format with `access_token`, `token_type` and `expires_in` (RFC 6749 §5.1). The default.
    #[must_use]
    pub fn rfc6749() -> Self {
        Self::custom(|grant| {
            json!({
                "access_token": grant.access_token,
                "token_type": grant.token_type,
                "expires_in": grant.expires_in.as_secs(),
            })
            .to_string()
        })
    }

    /// Returns Keycloak's format: with `refresh_expires_in: 0`, `not-before-policy: 0` and a `scope`.
    #[must_use]
    pub fn keycloak() -> Self {
        Self::custom(|grant| {
            json!({
                "access_token": grant.access_token,
                "expires_in": grant.expires_in.as_secs(),
                "refresh_expires_in": 0,
                "token_type": grant.token_type,
                "not-before-policy": 0,
                // The scope of a request without one.
                "scope": grant.scope.unwrap_or("profile email"),
            })
            .to_string()
        })
    }

    /// Returns Didit's format: with the claims `exp`, `iat`, `iss` and `sub`, and without `token_type`.
    #[must_use]
    pub fn didit() -> Self {
        Self::custom(|grant| {
            // Didit's claims are members of the response, in seconds since 1970.
            let issued = grant
                .issued_at
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            let mut answer = Map::new();
            answer.insert("access_token".into(), Value::from(grant.access_token));
            answer.insert("expires_in".into(), Value::from(grant.expires_in.as_secs()));
            answer.insert(
                "exp".into(),
                Value::from(issued.saturating_add(grant.expires_in).as_secs()),
            );
            answer.insert("iat".into(), Value::from(issued.as_secs()));
            answer.insert("iss".into(), Value::from(grant.issuer));
            answer.insert("sub".into(), Value::from(grant.client_id));
            Value::Object(answer).to_string()
        })
    }

    /// Returns the format whose text `shape` returns. It is sent as `application/json`.
    #[must_use]
    pub fn custom(shape: impl Fn(&Grant<'_>) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(shape))
    }

    /// Returns the body of the response.
    pub(super) fn write(&self, grant: &Grant<'_>) -> String {
        (self.0)(grant)
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self::rfc6749()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl fmt::Debug for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("client_id", &self.client_id)
            .field("scope", &self.scope)
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}
