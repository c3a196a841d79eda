//! The layer that makes request bodies replayable, and its service.

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
    budget::{Budget, ReplayEvent},
};
use crate::{sinks::Sinks, telemetry};

/// Wraps any request body in a [`ReplayBody`], so that the layers inside can send it again.
///
/// | a request whose body is | is sent again |
/// |---|---|
/// | at most [`max_body_bytes`](Self::max_body_bytes) | yes |
/// | larger, as announced by its size hint | no: it is streamed and nothing is buffered |
/// | larger, as found out while it is read | no: its buffer is freed at once |
/// | beyond [`max_total_bytes`](Self::max_total_bytes) of all bodies | no, and an event is emitted |
///
/// # Examples
///
/// ```
/// use tower_m2m::replay::RequestBodyReplayLayer;
///
/// let layer = RequestBodyReplayLayer::new().max_body_bytes(1024 * 1024);
/// ```
///
/// All services that a layer and its clones create share the budget. Bodies that are
/// [`ReplayableBody`](super::ReplayableBody) themselves, such as `Full`, need no layer and are not charged to the budget:
/// their copies share the bytes.
#[doc(alias("streaming body", "upload"))]
#[derive(Clone, Debug)]
pub struct RequestBodyReplayLayer {
    /// Maximum number of bytes of data to buffer per body.
    cap: usize,
    /// The budget, and the sinks of its events.
    memory: Arc<Budget>,
}

impl RequestBodyReplayLayer {
    /// Creates a layer that buffers at most 64 KiB of each body, and 64 MiB of all.
    #[must_use]
    pub fn new() -> Self {
        let mut sinks = Sinks::default();
        telemetry::install_replay_sinks(&mut sinks);
        Self {
            cap: DEFAULT_MAX_BODY_BYTES,
            memory: Arc::new(Budget::new(DEFAULT_MAX_TOTAL_BYTES, sinks)),
        }
    }

    /// Sets the maximum number of bytes of data that are buffered per body. A larger body is sent once. Default: 64 KiB.
    ///
    /// Raise it for an API that takes larger documents and rejects them with 429 or 401 late. Memory grows with the
    /// number of uploads in flight, so adapt [`max_total_bytes`](Self::max_total_bytes) as well.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::replay::RequestBodyReplayLayer;
    ///
    /// // 1 MiB each, for up to 256 uploads at once.
    /// let layer = RequestBodyReplayLayer::new()
    ///     .max_body_bytes(1024 * 1024)
    ///     .max_total_bytes(256 * 1024 * 1024);
    ///
    /// assert_eq!(layer.buffered_bytes(), 0);
    /// ```
    #[must_use]
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.cap = bytes;
        self
    }

    /// Sets the maximum number of bytes that all bodies together may buffer, from when they are read until the response
    /// arrives. Beyond it, a body is streamed and sent once, and a [`ReplayEvent::OverBudget`] is emitted. Default: 64 MiB.
    ///
    /// Call it before the layer is cloned or used: the layer gets a new budget, of which nothing is used.
    #[must_use]
    pub fn max_total_bytes(mut self, bytes: usize) -> Self {
        // A new budget, because clones and services share the old one.
        self.memory = Arc::new(Budget::new(bytes, self.memory.sinks.clone()));
        self
    }

    /// Adds a closure that receives events. May be called several times, before the layer is cloned or used. Default: the
    /// `tracing` event and the metric of [`telemetry`](crate::docs::telemetry).
    ///
    /// A closure is called on the task that reads the body. It must not block; a panic is caught and reported by the
    /// panic hook.
    #[must_use]
    pub fn on_event(mut self, sink: impl Fn(&ReplayEvent) + Send + Sync + 'static) -> Self {
        let mut sinks = self.memory.sinks.clone();
        sinks.add(sink);
        self.memory = Arc::new(Budget::new(self.memory.max_total_bytes, sinks));
        self
    }

    /// Returns the number of bytes that are buffered now.
    ///
    /// Counts the bodies of all services that this layer and its clones created. For a gauge, read it at each scrape.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.memory.buffered()
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

/// The service of a [`RequestBodyReplayLayer`], which makes request bodies replayable.
///
/// It adds no future and no error of its own: both are the inner service's.
///
/// Each request costs three allocations, whether its body is copied or not.
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
    memory: Arc<Budget>,
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

/// Default of [`RequestBodyReplayLayer::max_body_bytes`], in bytes.
const DEFAULT_MAX_BODY_BYTES: usize = 64 * 1024;
/// Default of [`RequestBodyReplayLayer::max_total_bytes`], in bytes.
const DEFAULT_MAX_TOTAL_BYTES: usize = 64 * 1024 * 1024;
