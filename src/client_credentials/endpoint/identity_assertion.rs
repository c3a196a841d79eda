//! Identity assertion grants: the token of an identity provider becomes an assertion that another authorization server
//! accepts (draft-ietf-oauth-identity-assertion-authz-grant).
//!
//! ```text
//! subject token ─ token exchange (RFC 8693) at the provider ─▶ assertion ─ JWT bearer (RFC 7523) at the endpoint ─▶ token
//! ```
//!
//! The access token is cached by the layer. The assertion is cached here, one for each audience, resource and set of
//! scopes, until it expires, the subject token changes, or the endpoint rejects it.
//!
//! A token must never be stored under the cache key of another subject. So each assertion has the provider's cache key
//! from before its exchange, and is used only while the provider has that key. A key that cannot be determined is equal
//! to itself: then the layer stores no token at all.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use super::{SecretSource, TokenEndpoint, TokenExchange, TokenRequest, validate::NO_AUDIENCE};
use crate::{
    client_credentials::{
        AccessToken, BoxTokenSource, CacheKey, FetchContext, FetchReason, TokenError,
        TokenErrorKind, TokenScope, TokenSource, context::SourceContext,
    },
    clock::add_capped,
    sync::{Mutex, lock},
};

/// A grant with an assertion about an identity, which an identity provider issues for the authorization server of the
/// API (draft-ietf-oauth-identity-assertion-authz-grant). The cross-application access of MCP is such a grant.
///
/// The subject token is exchanged at the provider for an assertion, the ID-JAG (RFC 8693). The
/// [`TokenEndpoint`] then exchanges the assertion for the access token (RFC 7523 §2.1). Each of both authenticates the
/// client by its own [`ClientAuth`](super::ClientAuth). Cheap to clone; clones share the assertions.
///
/// The assertion is requested for the issuer of the endpoint, for its [`resource`](TokenEndpoint::resource), and for its
/// scopes. It is used until it expires. If the endpoint rejects one that was used before with `invalid_grant`, a new one
/// is requested at once.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     ClientAuth, TokenEndpoint,
///     client_credentials::{IdentityAssertion, ProtectedResource, SecretFile, TokenExchange},
/// };
///
/// # fn main() -> Result<(), http::uri::InvalidUri> {
/// let provider =
///     TokenEndpoint::discover("https://idp.example", ClientAuth::basic("orders", "secret"));
/// let subject = SecretFile::new("/run/secrets/id_token");
/// let grant = IdentityAssertion::new(provider, subject, TokenExchange::ID_TOKEN);
/// let resource = ProtectedResource::new("https://api.example.com/mcp".parse()?);
/// let auth = ClientAuth::basic("orders at the API", "other secret");
/// let endpoint = TokenEndpoint::for_resource(resource, auth).grant(grant);
/// # drop(endpoint);
/// # Ok(())
/// # }
/// ```
#[doc(alias("ID-JAG"))]
#[derive(Clone)]
#[must_use = "pass it to `TokenEndpoint::grant`"]
pub struct IdentityAssertion {
    /// The token endpoint of the identity provider, with its grant.
    provider: BoxTokenSource,
    /// URL of the provider, for errors.
    provider_url: Arc<str>,
    /// Audience of the assertion, if it is not the issuer of the endpoint.
    audience: Option<Arc<str>>,
    /// Cached assertions, at most [`MAX_ASSERTIONS`].
    cache: Arc<Mutex<Vec<Assertion>>>,
}

/// A cached assertion.
struct Assertion {
    /// What it was requested for.
    scope: TokenScope,
    /// Cache key of the provider before the exchange. `None` if it could not be determined.
    provider: Option<CacheKey>,
    /// The assertion.
    token: AccessToken,
    /// Until when it is used.
    usable_until: Instant,
}

impl IdentityAssertion {
    /// Creates the grant. `provider` is the token endpoint of the identity provider, and `subject` a token that it
    /// accepts, with its type, such as [`TokenExchange::ID_TOKEN`].
    ///
    /// Replaces the grant of `provider`, and its [`retries`](TokenEndpoint::retries): those of the endpoint count for
    /// both. Its other settings are kept. The subject token is read again for every exchange.
    pub fn new(
        provider: TokenEndpoint,
        subject: impl SecretSource,
        subject_type: impl Into<String>,
    ) -> Self {
        let exchange =
            TokenExchange::new(subject, subject_type).requested_token_type(TokenExchange::ID_JAG);
        // The assertion is not an access token, which its type says (RFC 8693 §2.2.1).
        let provider = provider.grant(exchange).bearer_type(NOT_APPLICABLE);
        Self {
            provider_url: provider.redacted_uri().into(),
            provider: BoxTokenSource::new(provider.retries(0)),
            audience: None,
            cache: Arc::default(),
        }
    }

    /// Sets the audience of the assertion: the issuer that accepts it. Default: the issuer of the endpoint, which is
    /// known if the endpoint is discovered, or set by [`TokenEndpoint::issuer`].
    ///
    /// With [`TokenEndpoint::for_resource`], name the issuer with
    /// [`ProtectedResource::allow_issuer`](super::ProtectedResource::allow_issuer) as well: otherwise the API would decide
    /// which server receives an assertion for this audience.
    pub fn audience(mut self, audience: impl Into<Arc<str>>) -> Self {
        self.audience = Some(audience.into());
        self.cache = Arc::default();
        self
    }

    /// Writes the assertion. `issuer` and `resources` are those of the endpoint.
    ///
    /// # Errors
    ///
    /// The error of the exchange, which names the provider, or an unknown audience.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the exchange. An assertion that was issued is then lost.
    pub(super) async fn write(
        &self,
        request: &mut TokenRequest,
        scopes: &[String],
        issuer: Option<&str>,
        resources: &[&str],
        cx: &SourceContext<'_>,
    ) -> Result<(), TokenError> {
        let audience = self.audience.as_deref().or(issuer);
        let audience = audience.ok_or_else(|| TokenError::configuration(NO_AUDIENCE))?;
        let scope = TokenScope::new().audience(audience);
        let scope = scopes.iter().fold(scope, TokenScope::scope);
        let resources = resources.iter().copied();
        let scope = resources.fold(scope, TokenScope::resource);
        // The cache may hold assertions of an earlier subject, whatever their scopes are.
        if self.provider.changed().await {
            self.forget();
        }
        let key = self.provider.cache_key().await;
        let token = match self.cached(&scope, key.as_ref(), cx.clock().now()) {
            Some(token) => {
                request.reuses_assertion = true;
                token
            }
            None => self.exchange(scope, key, cx).await?,
        };
        // Issued for another subject or client than those of the cache key.
        request.is_private |= !token.is_shareable();
        let assertion = token.expose().unwrap_or_default();
        request.parameter("assertion", assertion);
        // A server may quote the assertion in its error.
        request.redact(assertion);
        Ok(())
    }

    /// Returns the cached assertion for `scope`, if it was requested while the provider had the cache key `provider`.
    fn cached(
        &self,
        scope: &TokenScope,
        provider: Option<&CacheKey>,
        now: Instant,
    ) -> Option<AccessToken> {
        let find = |assertion: &&Assertion| {
            assertion.scope == *scope
                && assertion.provider.as_ref() == provider
                && now < assertion.usable_until
        };
        let cache = lock(&self.cache);
        cache.iter().find(find).map(|found| found.token.clone())
    }

    /// Requests an assertion and caches it. `provider` is the cache key of the provider.
    async fn exchange(
        &self,
        scope: TokenScope,
        provider: Option<CacheKey>,
        cx: &SourceContext<'_>,
    ) -> Result<AccessToken, TokenError> {
        let fetch = FetchContext::new(FetchReason::Cold, None, *cx);
        let token = self.provider.fetch(fetch.with_token_scope(&scope)).await?;
        let issued = token.member("issued_token_type").and_then(Value::as_str);
        // Required (RFC 8693 §2.2.1). Another token, such as an access token of the provider, must not reach the endpoint.
        if issued != Some(TokenExchange::ID_JAG) {
            return Err(TokenError::new(
                TokenErrorKind::InvalidResponse,
                false,
                "returned another token than the requested assertion: its `issued_token_type` is missing, or is not that \
                 of an ID-JAG; check that the provider supports identity assertion grants",
            )
            .with_endpoint(self.provider_url.to_string()));
        }
        let now = cx.clock().now();
        let lifetime = token.lifetime().unwrap_or_default();
        // Early enough that the endpoint still accepts it.
        let usable = lifetime.saturating_sub(EXPIRY_MARGIN.min(lifetime / 4));
        let assertion = Assertion {
            scope,
            provider,
            token: token.clone(),
            usable_until: add_capped(token.sent_at().unwrap_or(now), usable),
        };
        let mut cache = lock(&self.cache);
        cache.retain(|known| known.scope != assertion.scope && now < known.usable_until);
        if cache.len() >= MAX_ASSERTIONS {
            cache.remove(0);
        }
        cache.push(assertion);
        Ok(token)
    }

    /// Discards the cached assertions.
    pub(super) fn forget(&self) {
        let forgotten = std::mem::take(&mut *lock(&self.cache));
        // Zeroized after the lock is released.
        drop(forgotten);
    }

    /// Returns whether the subject token or a secret of the provider's client has changed since the last exchange.
    pub(super) async fn changed(&self) -> bool {
        self.provider.changed().await
    }

    /// Adds the exchange to a cache key. `None` if a part of it cannot be determined.
    pub(super) async fn add_to_cache_key(&self, key: CacheKey) -> Option<CacheKey> {
        let provider = self.provider.cache_key().await?;
        let audience = self.audience.as_deref().unwrap_or_default();
        let key = key.nested("provider", &provider);
        Some(key.field("audience", audience))
    }

    /// Returns whether the issuer of the endpoint must be known.
    pub(super) fn needs_audience(&self) -> bool {
        self.audience.is_none()
    }
}

/// Omits the assertions.
impl fmt::Debug for IdentityAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityAssertion")
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// Token type of a token that is not an access token (RFC 8693 §2.2.1).
const NOT_APPLICABLE: &str = "N_A";
/// Maximum number of cached assertions.
const MAX_ASSERTIONS: usize = 16;
/// How long before its expiry an assertion is no longer used; at most a quarter of its lifetime.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);
