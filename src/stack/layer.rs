//! The combined layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{M2m, policy::M2mPolicy};
use crate::{
    ClientCredentialsLayer, RateLimitRetryLayer, client_credentials::TokenHandle,
    inner_service::InnerService, rate_limit_retry::QuotaHandle, sharded::Sharded,
};

/// Both layers in one: a [`RateLimitRetryLayer`] outside a [`ClientCredentialsLayer`], with one copy of each request.
///
/// Other layers and services made from the same two layers share their token and their knowledge of quotas. If several
/// credentials share one `RateLimitRetryLayer`, give each a
/// [name](crate::client_credentials::ClientCredentialsLayerBuilder::name): the default partition is then the origin and
/// that name, because servers count each credential separately.
///
/// A service made from the same `RateLimitRetryLayer` alone, for requests without a token, shares its limiter. All
/// settings are those of the two builders; this layer has none of its own.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     ClientAuth, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer, TokenEndpoint,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let endpoint = TokenEndpoint::new(
///     "https://issuer.example/oauth/token".parse()?,
///     ClientAuth::basic("my-client", "my-secret"),
/// );
/// let credentials =
///     ClientCredentialsLayer::builder(endpoint, "https://api.example.com".parse()?).build();
/// let layer = M2mLayer::new(RateLimitRetryLayer::new(), credentials);
/// # drop(layer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct M2mLayer {
    /// One policy per thread. All share one token cache and one limiter.
    policies: Sharded<M2mPolicy>,
}

impl M2mLayer {
    /// Combines the two layers: limits outside, credentials inside.
    ///
    /// # Examples
    ///
    /// Two credentials that share one knowledge of quotas:
    ///
    /// ```
    /// use tower_m2m::{
    ///     ClientCredentialsLayer, M2mLayer, Origin, RateLimitRetryLayer,
    ///     client_credentials::AccessToken,
    /// };
    ///
    /// # fn main() -> Result<(), tower_m2m::BoxError> {
    /// let api: Origin = "https://api.example.com".parse()?;
    /// let limits = RateLimitRetryLayer::new();
    /// let [orders, users] = ["orders", "users"].map(|name| {
    ///     let source = AccessToken::new(format!("token of {name}"));
    ///     let credentials = ClientCredentialsLayer::builder(source, api.clone());
    ///     M2mLayer::new(limits.clone(), credentials.name(name).build())
    /// });
    /// # drop((orders, users));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new(limits: RateLimitRetryLayer, credentials: ClientCredentialsLayer) -> Self {
        let (limiter, auth) = (limits.into_limiter(), credentials.into_auth());
        Self {
            policies: Sharded::new(|| M2mPolicy::new(Arc::clone(&limiter), Arc::clone(&auth))),
        }
    }

    /// Returns a handle to the tokens and quotas, for everything other than requests through this layer.
    ///
    /// # Examples
    ///
    /// Fetch the first token before the first request:
    ///
    /// ```
    /// use tower_m2m::{
    ///     ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer,
    ///     client_credentials::AccessToken,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_m2m::BoxError> {
    /// # let source = AccessToken::new("token");
    /// let origin = "https://api.example.com".parse()?;
    /// let credentials = ClientCredentialsLayer::builder(source, origin).build();
    /// let layer = M2mLayer::new(RateLimitRetryLayer::new(), credentials);
    ///
    /// layer.handle().tokens().prefetch().await?;
    ///
    /// assert!(layer.handle().tokens().status().is_usable());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn handle(&self) -> M2mHandle {
        let policy = self.policies.local();
        M2mHandle {
            tokens: TokenHandle::new(Arc::clone(&policy.auth.auth.refresher)),
            quotas: QuotaHandle::new(Arc::clone(&policy.limits.limiter)),
        }
    }
}

/// Handle to the tokens and quotas of an [`M2mLayer`]. Cheap to clone.
///
/// # Examples
///
/// ```
/// use tower_m2m::{M2mLayer, client_credentials::TokenError};
///
/// /// Fetches the token before the first request, so that a wrong secret is noticed at start-up.
/// async fn check(layer: &M2mLayer) -> Result<(), TokenError> {
///     layer.handle().tokens().prefetch().await
/// }
/// # let _ = check;
/// ```
#[derive(Clone, Debug)]
pub struct M2mHandle {
    /// Handle to the tokens.
    tokens: TokenHandle,
    /// Handle to the quotas.
    quotas: QuotaHandle,
}

impl M2mHandle {
    /// Returns a handle to the tokens.
    #[must_use]
    pub fn tokens(&self) -> TokenHandle {
        self.tokens.clone()
    }

    /// Returns a handle to the quotas.
    ///
    /// The same handle as that of the `RateLimitRetryLayer` that was passed: a pause applies to all services made from
    /// it.
    #[must_use]
    pub fn quotas(&self) -> QuotaHandle {
        self.quotas.clone()
    }
}

impl<S: InnerService> Layer<S> for M2mLayer {
    type Service = M2m<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let limiter = &self.policies.local().limits.limiter;
        // Reports a layer of this crate inside `S` that this one must not surround.
        limiter.emit_misuse(limiter.usage.both_around::<S>());
        M2m::new(inner, self.policies.clone())
    }
}
