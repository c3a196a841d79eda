//! The layer that makes request bodies replayable.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::Request;
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ReplayBody,
    memory::{Memory, ReplayEvent},
};
use crate::{sinks::Sinks, telemetry};

/// Turns any request body into a [`ReplayBody`], so that the layers inside can send it again.
///
/// # Examples
///
/// ```
/// use tower_m2m::replay::RequestBodyReplayLayer;
///
/// let layer = RequestBodyReplayLayer::new().cap(1024 * 1024);
/// ```
///
/// The budget is shared by all services that a layer and its clones make. Bodies that are
/// [`ReplayableBody`](super::ReplayableBody) by themselves, such as `Full`, need no layer and count for no budget: their
/// copies share the bytes.
#[derive(Clone, Debug)]
pub struct RequestBodyReplayLayer {
    cap: usize,
    memory: Arc<Memory>,
}

impl RequestBodyReplayLayer {
    /// A layer that remembers at most 64 KiB of each body, and 64 MiB of all.
    #[must_use]
    pub fn new() -> Self {
        let mut sinks = Sinks::default();
        telemetry::tell_of_bodies(&mut sinks);
        Self {
            cap: DEFAULT_CAP,
            memory: Arc::new(Memory::new(DEFAULT_BUDGET, sinks)),
        }
    }

    /// How many bytes of data of one body are remembered at most. A larger body is sent once. Default: 64 KiB.
    #[must_use]
    pub fn cap(mut self, bytes: usize) -> Self {
        self.cap = bytes;
        self
    }

    /// How many bytes all bodies together may keep, from when they are read until the answer is there. Beyond it a body
    /// streams on and is sent once, and a [`ReplayEvent::OverBudget`] is told. Default: 64 MiB.
    ///
    /// Set it before the layer is cloned or used: a budget begins with nothing kept.
    #[must_use]
    pub fn budget(mut self, bytes: usize) -> Self {
        self.memory = Arc::new(Memory::new(bytes, self.memory.sinks.clone()));
        self
    }

    /// Adds a closure that is told what happens; may be called again, before the layer is cloned or used. Default: the
    /// `tracing` event and the metric of [`telemetry`](crate::docs::telemetry).
    #[must_use]
    pub fn on_event(mut self, sink: impl Fn(&ReplayEvent) + Send + Sync + 'static) -> Self {
        let mut sinks = self.memory.sinks.clone();
        sinks.add(sink);
        self.memory = Arc::new(Memory::new(self.memory.budget, sinks));
        self
    }

    /// How many bytes are kept now.
    #[must_use]
    pub fn bytes_kept(&self) -> usize {
        self.memory.kept()
    }
}

impl Default for RequestBodyReplayLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RequestBodyReplayLayer {
    type Service = RequestBodyReplay<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestBodyReplay {
            inner,
            cap: self.cap,
            memory: Arc::clone(&self.memory),
        }
    }
}

/// Makes request bodies replayable. Made by a [`RequestBodyReplayLayer`].
///
/// # Examples
///
/// ```
/// use tower_m2m::{rate_limit_retry::RateLimitRetry, replay::RequestBodyReplay};
///
/// /// A client of `C`, whose request bodies may be streams.
/// struct Uploads<C> {
///     http: RequestBodyReplay<RateLimitRetry<C>>,
/// }
/// # let _: Option<Uploads<()>> = None;
/// ```
#[derive(Clone, Debug)]
pub struct RequestBodyReplay<S> {
    inner: S,
    cap: usize,
    memory: Arc<Memory>,
}

impl<S, B> Service<Request<B>> for RequestBodyReplay<S>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let within = |body| ReplayBody::within(body, self.cap, Some(&self.memory));
        let request = request.map(within);
        self.inner.call(request)
    }
}

const DEFAULT_CAP: usize = 64 * 1024;
const DEFAULT_BUDGET: usize = 64 * 1024 * 1024;
