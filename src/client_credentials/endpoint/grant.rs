//! What a token is granted for: the client's own credentials, an assertion, or another token.

use std::fmt;

use super::{SecretSource, TokenRequest, secret::SharedSecret};
use crate::client_credentials::{CacheIdentity, TokenError};

/// The grant that a [`TokenEndpoint`](super::TokenEndpoint) asks with. Cheap to clone.
///
/// Its tokens and assertions are read again for every attempt; [`SecretFile`](super::SecretFile) reads them from a file.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::{Grant, SecretFile}};
///
/// # fn main() -> Result<(), http::uri::InvalidUri> {
/// let workload = SecretFile::new("/var/run/secrets/tokens/issuer");
/// let endpoint = TokenEndpoint::new("https://issuer.example/oauth/token".parse()?, ClientAuth::anonymous())
///     .grant(Grant::jwt_bearer(workload));
/// # drop(endpoint);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Grant(Kind);

/// A token exchange (RFC 8693): another token is given in, an access token comes out.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::{SecretFile, TokenExchange}};
///
/// # fn main() -> Result<(), http::uri::InvalidUri> {
/// let workload = SecretFile::new("/var/run/secrets/tokens/sts");
/// let exchange = TokenExchange::new(workload, TokenExchange::JWT)
///     .requested_token_type(TokenExchange::ACCESS_TOKEN);
/// let endpoint = TokenEndpoint::new("https://sts.example/v1/token".parse()?, ClientAuth::anonymous())
///     .grant(exchange);
/// # drop(endpoint);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "pass it to `TokenEndpoint::grant`"]
pub struct TokenExchange {
    subject: TypedToken,
    actor: Option<TypedToken>,
    requested: Option<String>,
}

#[derive(Clone, Default)]
enum Kind {
    #[default]
    ClientCredentials,
    JwtBearer(SharedSecret),
    TokenExchange(Box<TokenExchange>),
}

#[derive(Clone)]
struct TypedToken {
    token: SharedSecret,
    token_type: String,
}

impl Grant {
    /// `client_credentials` (RFC 6749 §4.4). The default.
    #[must_use]
    pub fn client_credentials() -> Self {
        Self::default()
    }

    /// The JWT bearer grant (RFC 7523 §2.1): `assertion` is a JWT that the server trusts, from a workload identity for
    /// example. Where it names the client, too, the endpoint needs [`ClientAuth::anonymous`](super::ClientAuth) only.
    #[must_use]
    pub fn jwt_bearer(assertion: impl SecretSource) -> Self {
        Self(Kind::JwtBearer(SharedSecret::new("assertion", assertion)))
    }

    /// Token exchange (RFC 8693) of `subject`, whose type is a URI such as [`TokenExchange::JWT`]. Settings that are
    /// rarer are on [`TokenExchange`], which is a `Grant`, too.
    #[must_use]
    pub fn token_exchange(subject: impl SecretSource, subject_type: impl Into<String>) -> Self {
        TokenExchange::new(subject, subject_type).into()
    }

    pub(super) async fn write(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        request.parameter("grant_type", self.name());
        match &self.0 {
            Kind::ClientCredentials => Ok(()),
            Kind::JwtBearer(assertion) => {
                let assertion = request.read(assertion).await?;
                request.parameter("assertion", assertion.expose());
                request.redact(assertion);
                Ok(())
            }
            Kind::TokenExchange(exchange) => exchange.write(request).await,
        }
    }

    pub(super) async fn changed(&self) -> bool {
        match &self.0 {
            Kind::ClientCredentials => false,
            Kind::JwtBearer(assertion) => assertion.changed().await,
            Kind::TokenExchange(exchange) => exchange.changed().await,
        }
    }

    /// What tells this grant from others; `None` if a token in it cannot be read now.
    pub(super) async fn identify(&self) -> Option<CacheIdentity> {
        let identity = CacheIdentity::new(self.name());
        match &self.0 {
            Kind::ClientCredentials => Some(identity),
            Kind::JwtBearer(assertion) => {
                let assertion = assertion.look().await?;
                Some(identity.field("assertion", assertion.expose()))
            }
            Kind::TokenExchange(exchange) => exchange.identify(identity).await,
        }
    }

    /// Whether the grant's own RFC foresees several audiences.
    pub(super) fn takes_audiences(&self) -> bool {
        matches!(self.0, Kind::TokenExchange(_))
    }

    fn name(&self) -> &'static str {
        match self.0 {
            Kind::ClientCredentials => "client_credentials",
            Kind::JwtBearer(_) => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Kind::TokenExchange(_) => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }
}

impl TokenExchange {
    /// Exchanges `subject`, whose type is a URI such as [`JWT`](Self::JWT).
    pub fn new(subject: impl SecretSource, subject_type: impl Into<String>) -> Self {
        Self {
            subject: TypedToken {
                token: SharedSecret::new("subject token", subject),
                token_type: subject_type.into(),
            },
            actor: None,
            requested: None,
        }
    }

    /// The party that acts for the subject. Default: none.
    pub fn actor(mut self, actor: impl SecretSource, actor_type: impl Into<String>) -> Self {
        self.actor = Some(TypedToken {
            token: SharedSecret::new("actor token", actor),
            token_type: actor_type.into(),
        });
        self
    }

    /// The type of token to ask for. Default: none, which leaves it to the server.
    pub fn requested_token_type(mut self, token_type: impl Into<String>) -> Self {
        self.requested = Some(token_type.into());
        self
    }

    async fn write(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        self.subject.write(request, "subject_token").await?;
        if let Some(actor) = &self.actor {
            actor.write(request, "actor_token").await?;
        }
        if let Some(requested) = &self.requested {
            request.parameter("requested_token_type", requested.as_str());
        }
        Ok(())
    }

    async fn changed(&self) -> bool {
        let actor_changed = match &self.actor {
            Some(actor) => actor.token.changed().await,
            None => false,
        };
        actor_changed || self.subject.token.changed().await
    }

    async fn identify(&self, identity: CacheIdentity) -> Option<CacheIdentity> {
        let subject = self.subject.token.look().await?;
        let identity = identity
            .field("subject", subject.expose())
            .field("type", &self.subject.token_type)
            .field("requested", self.requested.as_deref().unwrap_or_default());
        let Some(actor) = &self.actor else {
            return Some(identity);
        };
        let token = actor.token.look().await?;
        Some(
            identity
                .field("actor", token.expose())
                .field("type", &actor.token_type),
        )
    }

    /// The type of an OAuth access token (RFC 8693 §3).
    pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

    /// The type of an OpenID Connect ID token (RFC 8693 §3).
    pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

    /// The type of a JWT of any kind (RFC 8693 §3).
    pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
}

impl TypedToken {
    async fn write(&self, request: &mut TokenRequest, name: &str) -> Result<(), TokenError> {
        let token = request.read(&self.token).await?;
        request.parameter(name, token.expose());
        request.parameter(format!("{name}_type"), self.token_type.as_str());
        request.redact(token);
        Ok(())
    }
}

impl From<TokenExchange> for Grant {
    fn from(exchange: TokenExchange) -> Self {
        Self(Kind::TokenExchange(Box::new(exchange)))
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grant").field(&self.name()).finish()
    }
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenExchange")
            .field("subject_type", &self.subject.token_type)
            .field("requested", &self.requested)
            .finish_non_exhaustive()
    }
}
