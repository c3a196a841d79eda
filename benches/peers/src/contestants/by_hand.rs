//! A header value behind a lock, in a service as people write it themselves: no refresh, no origin, nothing else.

#![expect(
    clippy::disallowed_types,
    reason = "locks that the token cache is compared with"
)]

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, RwLock},
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use http::{HeaderValue, header};
use tower::Service;

use super::{AUTHORIZATION, Client, Contestant, Tower};
use crate::inner::{Inner, Plain, Sent, token};

/// The header is available immediately.
pub trait Shared: Clone + Send + Sync + 'static {
    fn header(&self) -> HeaderValue;
}

/// Sets the header, and passes on the inner future as it is.
pub struct Authorize<T, S> {
    shared: T,
    inner: S,
}

impl<T: Clone, S: Clone> Clone for Authorize<T, S> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<T, S> Authorize<T, S> {
    pub fn new(shared: T, inner: &S) -> Self
    where
        S: Clone,
    {
        let inner = inner.clone();
        Self { shared, inner }
    }
}

impl<T: Shared, S: Service<Sent>> Service<Sent> for Authorize<T, S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Sent) -> S::Future {
        let header = self.shared.header();
        request.headers_mut().insert(header::AUTHORIZATION, header);
        self.inner.call(request)
    }
}

impl Shared for Arc<RwLock<HeaderValue>> {
    fn header(&self) -> HeaderValue {
        self.read().expect("no panic under it").clone()
    }
}

impl Shared for Arc<Mutex<HeaderValue>> {
    fn header(&self) -> HeaderValue {
        self.lock().expect("no panic under it").clone()
    }
}

impl Shared for Arc<ArcSwap<HeaderValue>> {
    fn header(&self) -> HeaderValue {
        HeaderValue::clone(&self.load())
    }
}

/// tokio's lock is awaited, so that the service boxes its future.
struct Awaiting<S> {
    shared: Arc<tokio::sync::RwLock<HeaderValue>>,
    inner: S,
}

impl<S: Clone> Clone for Awaiting<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            inner: self.inner.clone(),
        }
    }
}

impl<S: Inner<Plain>> Service<Sent> for Awaiting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Sent) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            let header = shared.read().await.clone();
            request.headers_mut().insert(header::AUTHORIZATION, header);
            inner.call(request).await
        })
    }
}

pub fn bearer() -> HeaderValue {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token())).expect("a header value");
    value.set_sensitive(true);
    value
}

pub fn contestants<S: Inner<Plain>>(inner: &S) -> Vec<Contestant> {
    let rw_lock = Arc::new(RwLock::new(bearer()));
    let mutex = Arc::new(Mutex::new(bearer()));
    let arc_swap = Arc::new(ArcSwap::from_pointee(bearer()));
    let awaiting = Awaiting {
        shared: Arc::new(tokio::sync::RwLock::new(bearer())),
        inner: inner.clone(),
    };
    vec![
        by_hand("by hand, std RwLock", Authorize::new(rw_lock, inner)),
        by_hand("by hand, std Mutex", Authorize::new(mutex, inner)),
        by_hand("by hand, tokio RwLock", awaiting),
        by_hand("by hand, arc-swap", Authorize::new(arc_swap, inner)),
    ]
}

fn by_hand<S>(name: &'static str, service: S) -> Contestant
where
    Tower<S>: Client,
{
    Contestant::new(name, AUTHORIZATION, Tower(service))
}
