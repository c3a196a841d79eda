//! The layer, and the ways to share a value by hand.

use std::{
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex, RwLock},
};

use arc_swap::ArcSwap;
use http::{HeaderValue, header};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, ServiceExt};
use tower_m2m::client_credentials::{ClientCredentials, TokenHandle};

use crate::support::{Answer, Sent, credentials, prefetch, token};

/// Sends requests with a shared token.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    fn send(&mut self, request: Sent) -> impl Future<Output = ()> + Send;
    /// Makes another token the current one.
    fn publish(&self);
}

/// The service underneath.
pub(crate) trait Inner:
    Service<Sent, Response = Answer, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Inner for S where
    S: Service<Sent, Response = Answer, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The layer's service, and what renews its token.
#[derive(Clone)]
pub(crate) struct LayerClient<S> {
    service: ClientCredentials<S>,
    handle: TokenHandle,
    runtime: Arc<Runtime>,
}

impl<S: Clone> LayerClient<S> {
    pub(crate) fn new(inner: S) -> Self {
        let layer = prefetch(credentials().replay(false));
        let runtime = Builder::new_current_thread().enable_time().build();
        Self {
            service: layer.layer(inner),
            handle: layer.handle(),
            runtime: Arc::new(runtime.expect("a runtime")),
        }
    }
}

impl<S: Inner> Client for LayerClient<S> {
    async fn send(&mut self, request: Sent) {
        let ready = self
            .service
            .ready()
            .await
            .expect("the service is always ready");
        ready.call(request).await.expect("a response");
    }

    fn publish(&self) {
        let fetched = self.runtime.block_on(self.handle.refresh_now());
        drop(fetched.expect("a token"));
    }
}

/// A way to share a value by hand.
pub(crate) trait Shared: Send + Sync + 'static {
    fn new(value: HeaderValue) -> Self;
    fn get(&self) -> impl Future<Output = HeaderValue> + Send;
    fn set(&self, value: HeaderValue);
}

pub(crate) struct ByHand<L, S> {
    shared: Arc<L>,
    inner: S,
}

impl<L, S: Clone> Clone for ByHand<L, S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            inner: self.inner.clone(),
        }
    }
}

impl<L: Shared, S: Clone> ByHand<L, S> {
    pub(crate) fn new(inner: &S) -> Self {
        Self {
            shared: Arc::new(L::new(bearer())),
            inner: inner.clone(),
        }
    }
}

impl<L: Shared, S: Inner> Client for ByHand<L, S> {
    async fn send(&mut self, mut request: Sent) {
        let value = self.shared.get().await;
        request.headers_mut().insert(header::AUTHORIZATION, value);
        let ready = self
            .inner
            .ready()
            .await
            .expect("the service is always ready");
        ready.call(request).await.expect("a response");
    }

    fn publish(&self) {
        self.shared.set(bearer());
    }
}

impl Shared for RwLock<HeaderValue> {
    fn new(value: HeaderValue) -> Self {
        Self::new(value)
    }

    async fn get(&self) -> HeaderValue {
        self.read().expect("no panic under it").clone()
    }

    fn set(&self, value: HeaderValue) {
        *self.write().expect("no panic under it") = value;
    }
}

impl Shared for Mutex<HeaderValue> {
    fn new(value: HeaderValue) -> Self {
        Self::new(value)
    }

    async fn get(&self) -> HeaderValue {
        self.lock().expect("no panic under it").clone()
    }

    fn set(&self, value: HeaderValue) {
        *self.lock().expect("no panic under it") = value;
    }
}

impl Shared for tokio::sync::RwLock<HeaderValue> {
    fn new(value: HeaderValue) -> Self {
        Self::new(value)
    }

    async fn get(&self) -> HeaderValue {
        self.read().await.clone()
    }

    fn set(&self, value: HeaderValue) {
        *self.blocking_write() = value;
    }
}

impl Shared for ArcSwap<HeaderValue> {
    fn new(value: HeaderValue) -> Self {
        Self::from_pointee(value)
    }

    async fn get(&self) -> HeaderValue {
        HeaderValue::clone(&self.load())
    }

    fn set(&self, value: HeaderValue) {
        self.store(Arc::new(value));
    }
}

fn bearer() -> HeaderValue {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token())).expect("a header value");
    value.set_sensitive(true);
    value
}
