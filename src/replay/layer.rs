//! The layer that makes request bodies replayable.

use std::task::{Context, Poll};

use http::Request;
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::ReplayBody;

/// Turns any request body into a [`ReplayBody`], so that the layers inside can send it again.
///
/// # Examples
///
/// ```
/// use tower_m2m::replay::RequestBodyReplayLayer;
///
/// let layer = RequestBodyReplayLayer::new().cap(1024 * 1024);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RequestBodyReplayLayer {
    cap: usize,
}

impl RequestBodyReplayLayer {
    /// A layer that remembers at most 64 KiB of each body.
    #[must_use]
    pub const fn new() -> Self {
        Self { cap: DEFAULT_CAP }
    }

    /// How many bytes of data of one body are remembered at most. A larger body is sent once. Default: 64 KiB.
    #[must_use]
    pub const fn cap(mut self, bytes: usize) -> Self {
        self.cap = bytes;
        self
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
        }
    }
}

/// Makes request bodies replayable. Made by a [`RequestBodyReplayLayer`].
#[derive(Clone, Debug)]
pub struct RequestBodyReplay<S> {
    inner: S,
    cap: usize,
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
        let cap = self.cap;
        self.inner
            .call(request.map(|body| ReplayBody::new(body, cap)))
    }
}

const DEFAULT_CAP: usize = 64 * 1024;
