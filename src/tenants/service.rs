//! The service that sends each request through its tenant's layer.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{CredentialId, TenantError, table::Table};
use crate::{BoxError, replay::ReplayableBody, stack::ResponseFuture};

/// The service of a [`TenantsLayer`](super::TenantsLayer), which sends each request with its tenant's credential.
///
/// It is ready when the inner service is. The tenant's layer wraps that service for one call, so all tenants share the
/// connections of the inner service.
///
/// Per request it costs a lookup in the copies of the thread's shard, a reference count, and the building of the
/// tenant's service, which clones the inner service once.
///
/// # Errors
///
/// Returns a [`TenantError`] if the request has no credential, the errors of the tenant's
/// [`M2mLayer`](crate::M2mLayer), and those of the inner service.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use hyper_util::client::legacy::{Client, connect::HttpConnector};
/// use tower_m2m::tenants::Tenants;
///
/// /// What a gateway's handlers share. Cheap to clone.
/// #[derive(Clone)]
/// struct App {
///     upstream: Tenants<Client<HttpConnector, Full<Bytes>>>,
/// }
/// ```
#[derive(Clone)]
pub struct Tenants<S> {
    inner: S,
    table: Arc<Table>,
}

impl<S> Tenants<S> {
    /// Wraps `inner`.
    pub(super) fn new(inner: S, table: Arc<Table>) -> Self {
        Self { inner, table }
    }

    /// Returns a reference to the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, RB> Service<Request<B>> for Tenants<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send + 'static,
    RB: Body + Send + 'static,
{
    type Response = Response<RB>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B> {
        let chosen = request.extensions().get::<CredentialId>();
        let tenant = chosen
            .ok_or(TenantError::MissingId)
            .and_then(|id| self.table.tenant(id));
        match tenant {
            Ok(tenant) => {
                // Call the instance that was polled ready, and keep a clone that is not.
                let fresh = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, fresh);
                tenant.layer.layer(ready).call(request)
            }
            // The inner service was not called: it stays ready for the next request.
            Err(error) => ResponseFuture::not_sent(error.into()),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Tenants<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
