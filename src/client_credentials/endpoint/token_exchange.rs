//! Token exchange (RFC 8693): its parameters.

use std::fmt;

use super::{SecretSource, TokenRequest, secret::BoxSecretSource};
use crate::client_credentials::{CacheKey, TokenError};

/// A token exchange (RFC 8693): sends a subject token and receives an access token.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     ClientAuth, TokenEndpoint,
///     client_credentials::{SecretFile, TokenExchange},
/// };
///
/// # fn main() -> Result<(), http::uri::InvalidUri> {
/// let workload = SecretFile::new("/var/run/secrets/tokens/sts");
/// let exchange = TokenExchange::new(workload, TokenExchange::JWT)
///     .requested_token_type(TokenExchange::ACCESS_TOKEN);
/// let endpoint =
///     TokenEndpoint::new("https://sts.example/v1/token".parse()?, ClientAuth::anonymous())
///         .grant(exchange);
/// # drop(endpoint);
/// # Ok(())
/// # }
/// ```
#[doc(alias("RFC 8693"))]
#[derive(Clone)]
#[must_use = "pass it to `TokenEndpoint::grant`"]
pub struct TokenExchange {
    /// The token to exchange.
    subject: TypedToken,
    /// The token of the acting party, if there is one.
    actor: Option<TypedToken>,
    /// URI of the token type to request. `None` leaves the choice to the server.
    requested: Option<String>,
}

/// A token with its type.
///
/// Both are sent together: a server takes a token only with its type (RFC 8693 §2.1).
#[derive(Clone)]
struct TypedToken {
    /// Source of the token.
    token: BoxSecretSource,
    /// URI of the token's type (RFC 8693 §3).
    token_type: String,
}

impl TokenExchange {
    /// Creates an exchange of `subject`, whose type is a URI such as [`JWT`](Self::JWT).
    pub fn new(subject: impl SecretSource, subject_type: impl Into<String>) -> Self {
        Self {
            subject: TypedToken {
                token: BoxSecretSource::new("subject token", subject),
                token_type: subject_type.into(),
            },
            actor: None,
            requested: None,
        }
    }

    /// Sets the token of the party that acts for the subject (RFC 8693 §2.1). Default: none.
    ///
    /// Use it for delegation: the token that is issued then names the acting party in its `act` claim (RFC 8693 §4.1).
    /// Without it the exchange usually is an impersonation (RFC 8693 §1.1).
    pub fn actor(mut self, actor: impl SecretSource, actor_type: impl Into<String>) -> Self {
        self.actor = Some(TypedToken {
            token: BoxSecretSource::new("actor token", actor),
            token_type: actor_type.into(),
        });
        self
    }

    /// Sets the type of token to request. Default: none, which leaves the choice to the server.
    ///
    /// The response must contain a token that can be sent as a bearer token, whatever its type is. A response with the
    /// type `N_A` is an error.
    pub fn requested_token_type(mut self, token_type: impl Into<String>) -> Self {
        self.requested = Some(token_type.into());
        self
    }

    /// Writes the exchange's parameters.
    pub(super) async fn write(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        self.subject.write(request, "subject_token").await?;
        if let Some(actor) = &self.actor {
            actor.write(request, "actor_token").await?;
        }
        if let Some(requested) = &self.requested {
            request.parameter("requested_token_type", requested.as_str());
        }
        Ok(())
    }

    /// Returns whether a token of the exchange has changed since it was last used.
    pub(super) async fn changed(&self) -> bool {
        let actor_changed = match &self.actor {
            Some(actor) => actor.token.changed().await,
            None => false,
        };
        actor_changed || self.subject.token.changed().await
    }

    /// Adds the exchange to a cache key. Returns `None` if a token cannot be read.
    pub(super) async fn add_to_cache_key(&self, cache_key: CacheKey) -> Option<CacheKey> {
        let subject = self.subject.token.peek().await?;
        let cache_key = cache_key
            .field("subject", subject.expose())
            .field("type", &self.subject.token_type)
            .field("requested", self.requested.as_deref().unwrap_or_default());
        let Some(actor) = &self.actor else {
            return Some(cache_key);
        };
        let token = actor.token.peek().await?;
        Some(
            cache_key
                .field("actor", token.expose())
                .field("type", &actor.token_type),
        )
    }

    /// Type of an OAuth access token (RFC 8693 §3).
    pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

    /// Type of an ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant), which
    /// [`IdentityAssertion`](super::IdentityAssertion) requests.
    pub const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

    /// Type of an OpenID Connect ID token (RFC 8693 §3).
    pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

    /// Type of a JWT of any kind (RFC 8693 §3).
    pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
}

impl TypedToken {
    /// Writes the token as the parameter `name`, and its type.
    async fn write(&self, request: &mut TokenRequest, name: &str) -> Result<(), TokenError> {
        let token = request.read(&self.token).await?;
        request.parameter(name, token.expose());
        request.parameter(format!("{name}_type"), self.token_type.as_str());
        request.redact(token);
        Ok(())
    }
}

/// Omits the tokens.
impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenExchange")
            .field("subject_type", &self.subject.token_type)
            .field("requested", &self.requested)
            .finish_non_exhaustive()
    }
}
