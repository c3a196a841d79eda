//! The service.

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

/// Sends each request as the tenant that it belongs to. Made by a [`TenantsLayer`](super::TenantsLayer).
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
    pub(super) fn new(inner: S, table: Arc<Table>) -> Self {
        Self { inner, table }
    }

    /// The service underneath.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service underneath.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service underneath.
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
            .ok_or(TenantError::NotChosen)
            .and_then(|id| self.table.tenant(id));
        match tenant {
            Ok(tenant) => {
                // The instance that was polled ready is the one that is called.
                let fresh = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, fresh);
                tenant.layer.layer(ready).call(request)
            }
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
