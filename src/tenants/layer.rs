//! The layer and its settings, and the handle.

use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{
    CredentialId, Tenants,
    table::{Limits, Make, Table},
};
use crate::{
    BoxError, Clock, M2mLayer, client_credentials::TokenHandle, clock::SharedClock,
    rate_limit_retry::QuotaHandle,
};

/// Sends each request through the [`M2mLayer`] of the tenant that its [`CredentialId`] names.
///
/// A tenant's layer is made when its first request comes, and kept while it is in use. Settings are taken over by the
/// first service or handle; set them before.
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
///     let credentials = ClientCredentialsLayer::builder(key, "https://api.example.com".parse()?).name("acme");
///     Ok(Some(M2mLayer::new(RateLimitRetryLayer::new(), credentials.build())))
/// });
///
/// let mut request = Request::get("https://api.example.com/").body(())?;
/// request.extensions_mut().insert(CredentialId::new("nobody"));
/// let error = tenants.layer(http).oneshot(request).await.unwrap_err();
///
/// assert!(matches!(error.downcast_ref(), Some(TenantError::Unknown(_))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TenantsLayer {
    table: Arc<Table>,
}

impl TenantsLayer {
    /// `make` gives a tenant's layer: `None` for one that does not exist, which refuses the request. It is called without
    /// waiting, for the first request of a tenant and for each one after an error; two threads may call it at once, and
    /// one of the two layers is kept. Its panic is an error like another. It is called again if the tenant is
    /// [forgotten](TenantsHandle::forget) meanwhile.
    ///
    /// Give each [`ClientCredentialsLayer`](crate::ClientCredentialsLayer) a
    /// [name](crate::client_credentials::ClientCredentialsLayerBuilder::name), so that events tell tenants apart.
    #[must_use]
    pub fn new(
        make: impl Fn(&CredentialId) -> Result<Option<M2mLayer>, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self::builder(make).build()
    }

    /// [`new`](Self::new), with settings.
    pub fn builder(
        make: impl Fn(&CredentialId) -> Result<Option<M2mLayer>, BoxError> + Send + Sync + 'static,
    ) -> TenantsLayerBuilder {
        TenantsLayerBuilder {
            make: Box::new(make),
            limits: Limits {
                most: MOST,
                idle_after: IDLE_AFTER,
            },
            clock: SharedClock::default(),
        }
    }

    /// The tenants, for everything that is not a request through this layer.
    #[must_use]
    pub fn handle(&self) -> TenantsHandle {
        TenantsHandle(Arc::clone(&self.table))
    }
}

impl<S> Layer<S> for TenantsLayer {
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

/// The settings of a [`TenantsLayer`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::tenants::TenantsLayer;
///
/// let layer = TenantsLayer::builder(|_| Ok(None)) // nobody is known
///     .max_tenants(100)
///     .idle_after(Duration::from_secs(600))
///     .build();
/// # drop(layer);
/// ```
#[must_use = "settings do nothing until `build()`"]
pub struct TenantsLayerBuilder {
    make: Box<Make>,
    limits: Limits,
    clock: SharedClock,
}

impl TenantsLayerBuilder {
    /// How many tenants are kept at once. A further one is refused with
    /// [`TenantError::Full`](super::TenantError::Full), unless another was idle for long. Default: 10,000.
    pub fn max_tenants(mut self, most: usize) -> Self {
        self.limits.most = most;
        self
    }

    /// For how long a tenant must not have been used before it may be forgotten, with its token. One whose issuer is
    /// failing, whose API asked to wait, or whose requests are under way is never forgotten. Default: one hour.
    pub fn idle_after(mut self, time: Duration) -> Self {
        self.limits.idle_after = time;
        self
    }

    /// Where the time is read. Default: [`SystemClock`](crate::SystemClock).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// The layer.
    #[must_use]
    pub fn build(self) -> TenantsLayer {
        TenantsLayer {
            table: Arc::new(Table::new(self.make, self.limits, self.clock)),
        }
    }
}

impl fmt::Debug for TenantsLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantsLayerBuilder")
            .finish_non_exhaustive()
    }
}

/// The tenants of a [`TenantsLayer`]. Cheap to clone.
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
    /// Those that are kept now, in no order.
    #[must_use]
    pub fn ids(&self) -> Vec<CredentialId> {
        self.0.ids()
    }

    /// A tenant's tokens; `None` if it is not kept now.
    #[must_use]
    pub fn tokens(&self, id: &CredentialId) -> Option<TokenHandle> {
        Some(self.0.known(id)?.layer.tokens())
    }

    /// What is known about a tenant's quotas; `None` if it is not kept now.
    #[must_use]
    pub fn quotas(&self, id: &CredentialId) -> Option<QuotaHandle> {
        Some(self.0.known(id)?.layer.quotas())
    }

    /// Forgets a tenant, whatever it is doing: its next request makes its layer anew, or is refused. Requests under way go
    /// on. A layer that is being made now is not kept: it is made again from what the closure reads afterwards. `false` if
    /// the tenant is not kept now.
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

const MOST: usize = 10_000;
const IDLE_AFTER: Duration = Duration::from_secs(3600);
