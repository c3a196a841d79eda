//! The layer, its builder and its handle.

use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{
    CredentialId, Tenants,
    table::{Limits, MakeLayer, Table},
};
use crate::{
    BoxError, Clock, M2mLayer, client_credentials::TokenHandle, clock::SharedClock,
    inner_service::InnerService, rate_limit_retry::QuotaHandle,
};

/// Sends each request through the [`M2mLayer`] of the tenant that its [`CredentialId`] names.
///
/// A request without one fails with [`TenantError::MissingId`](super::TenantError::MissingId). Clones, services and
/// handles of a layer share its tenants.
///
/// A tenant's layer is created for its first request, and kept while it is in use. The
/// [`builder`](Self::builder) has the settings.
///
/// Use it if the number of tenants is not known at compile time, or if they come and go. For a few fixed credentials,
/// an [`M2mLayer`] each is simpler.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{
///     BoxError, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer,
///     client_credentials::AccessToken,
///     tenants::{CredentialId, TenantError, TenantsLayer},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let http = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(String::new())));
/// let tenants = TenantsLayer::new(|tenant: &CredentialId| {
///     let key = match tenant.as_str() {
///         "acme" => AccessToken::new("acme's key"),
///         _ => return Ok(None),
///     };
///     let credentials =
///         ClientCredentialsLayer::builder(key, "https://api.example.com".parse()?)
///             .name("acme");
///     Ok(Some(M2mLayer::new(RateLimitRetryLayer::new(), credentials.build())))
/// });
///
/// let mut request = Request::get("https://api.example.com/").body(())?;
/// request.extensions_mut().insert(CredentialId::new("unknown"));
/// let error = tenants.layer(http).oneshot(request).await.unwrap_err();
///
/// assert!(matches!(error.downcast_ref(), Some(TenantError::Unknown(_))));
/// # Ok(())
/// # }
/// ```
#[doc(alias("multi-tenant"))]
#[derive(Clone)]
pub struct TenantsLayer {
    table: Arc<Table>,
}

impl TenantsLayer {
    /// Creates a layer with all defaults. `make` returns a tenant's layer, or `None` for a tenant that does not exist,
    /// whose requests fail.
    ///
    /// `make` is called synchronously, for the first request of a tenant and for each one after an error. Two threads
    /// may call it at once, and one of the two layers is kept. A panic in it counts as an error. If the tenant is
    /// [forgotten](TenantsHandle::forget) during the call, `make` is called again.
    ///
    /// Give each [`ClientCredentialsLayer`](crate::ClientCredentialsLayer) a
    /// [name](crate::client_credentials::ClientCredentialsLayerBuilder::name), so that events distinguish tenants.
    ///
    /// Keep the closure fast: it runs within the call of a request, on a worker thread of the runtime. Read secrets
    /// with a [`SecretSource`](crate::client_credentials::SecretSource) instead, which the token fetch reads
    /// asynchronously.
    ///
    /// # Errors
    ///
    /// An error of `make` becomes [`TenantError::LayerFailed`](super::TenantError::LayerFailed) of the request that
    /// caused the call, and the next request calls it again. `Ok(None)` becomes
    /// [`TenantError::Unknown`](super::TenantError::Unknown).
    #[must_use]
    pub fn new(
        make: impl Fn(&CredentialId) -> Result<Option<M2mLayer>, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self::builder(make).build()
    }

    /// Returns a builder with all defaults. `make` is that of [`new`](Self::new).
    pub fn builder(
        make: impl Fn(&CredentialId) -> Result<Option<M2mLayer>, BoxError> + Send + Sync + 'static,
    ) -> TenantsLayerBuilder {
        TenantsLayerBuilder {
            make_layer: Box::new(make),
            limits: Limits {
                max_tenants: DEFAULT_MAX_TENANTS,
                idle_timeout: DEFAULT_IDLE_TIMEOUT,
            },
            clock: SharedClock::default(),
        }
    }

    /// Returns a handle to the tenants.
    ///
    /// Handles keep the tenants alive after the layer was dropped.
    #[must_use]
    pub fn handle(&self) -> TenantsHandle {
        TenantsHandle(Arc::clone(&self.table))
    }
}

impl<S: InnerService> Layer<S> for TenantsLayer {
    type Service = Tenants<S>;

    fn layer(&self, inner: S) -> Tenants<S> {
        Tenants::new(inner, Arc::clone(&self.table))
    }
}

impl fmt::Debug for TenantsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantsLayer").finish_non_exhaustive()
    }
}

/// A builder of a [`TenantsLayer`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::tenants::TenantsLayer;
///
/// let layer = TenantsLayer::builder(|_| Ok(None)) // no tenant is known
///     .max_tenants(100)
///     .idle_timeout(Duration::from_secs(600))
///     .build();
/// # drop(layer);
/// ```
#[must_use = "settings do nothing until `build()`"]
pub struct TenantsLayerBuilder {
    make_layer: Box<MakeLayer>,
    limits: Limits,
    clock: SharedClock,
}

impl TenantsLayerBuilder {
    /// Sets the maximum number of tenants that are kept. A request of a further tenant fails with
    /// [`TenantError::AtCapacity`](super::TenantError::AtCapacity), unless another tenant can be removed as idle. With
    /// 0, every request fails. Default: 10,000.
    ///
    /// The bound protects the memory of a gateway with many tenants. Set it above the number of tenants that are active
    /// within `idle_timeout`.
    pub fn max_tenants(mut self, most: usize) -> Self {
        self.limits.max_tenants = most;
        self
    }

    /// Sets how long a tenant must be unused before it may be removed, with its token. A tenant is never removed while
    /// its issuer is failing, its API asked to wait, or its requests are in flight. Default: one hour.
    ///
    /// Raise it if tokens are expensive: a tenant that comes back needs a new one. Idle tenants are removed when a
    /// tenant is added, so that some may stay for longer.
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.limits.idle_timeout = time;
        self
    }

    /// Sets the clock. Default: [`SystemClock`](crate::SystemClock).
    ///
    /// For the idle time only. Each tenant's layers have a clock of their own.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Builds the layer.
    #[must_use]
    pub fn build(self) -> TenantsLayer {
        TenantsLayer {
            table: Arc::new(Table::new(self.make_layer, self.limits, self.clock)),
        }
    }
}

impl fmt::Debug for TenantsLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantsLayerBuilder")
            .finish_non_exhaustive()
    }
}

/// A handle to the tenants of a [`TenantsLayer`]. Cheap to clone.
///
/// For everything except requests: to list tenants, to reach their tokens and quotas, and to remove one.
///
/// None of its functions builds a tenant or counts as a use of it.
///
/// # Examples
///
/// ```
/// use tower_m2m::tenants::{CredentialId, TenantsHandle};
///
/// /// After a tenant's secret was replaced.
/// fn renew(tenants: &TenantsHandle, name: &str) {
///     tenants.forget(&CredentialId::new(name));
/// }
/// ```
#[derive(Clone)]
pub struct TenantsHandle(Arc<Table>);

impl TenantsHandle {
    /// Returns the ids of the tenants that are kept now, in no particular order.
    #[must_use]
    pub fn ids(&self) -> Vec<CredentialId> {
        self.0.ids()
    }

    /// Returns a handle to a tenant's tokens; `None` if the tenant is not kept now.
    #[must_use]
    pub fn tokens(&self, id: &CredentialId) -> Option<TokenHandle> {
        Some(self.0.get(id)?.layer.handle().tokens())
    }

    /// Returns a handle to a tenant's quotas; `None` if the tenant is not kept now.
    #[must_use]
    pub fn quotas(&self, id: &CredentialId) -> Option<QuotaHandle> {
        Some(self.0.get(id)?.layer.handle().quotas())
    }

    /// Removes a tenant, whatever its state: its next request builds its layer anew, or fails. Requests in flight
    /// continue. A layer that is being built now is discarded, and the closure is called again, so that it reads
    /// current data. Returns `false` if the tenant is not kept now.
    ///
    /// Does not revoke the tenant's token. To do that, take [`tokens`](Self::tokens) first and shut them down.
    #[expect(clippy::must_use_candidate, reason = "most callers need not know")]
    pub fn forget(&self, id: &CredentialId) -> bool {
        self.0.forget(id)
    }
}

impl fmt::Debug for TenantsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TenantsHandle").field(&self.ids()).finish()
    }
}

/// Default of [`TenantsLayerBuilder::max_tenants`].
const DEFAULT_MAX_TENANTS: usize = 10_000;
/// Default of [`TenantsLayerBuilder::idle_timeout`].
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
