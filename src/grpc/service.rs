//! The service, and the future that looks at an answer.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use http_body_util::BodyExt;
use pin_project_lite::pin_project;
use tokio::{runtime::Handle, time::timeout};
use tower_service::Service;

use super::{
    Changed, GrpcStatusLayer,
    status::{self, PUSHBACK, STATUS},
};
use crate::rate_limit_retry::PeekedBody;

/// Made by a [`GrpcStatusLayer`].
#[derive(Clone, Debug)]
pub struct GrpcStatus<S> {
    inner: S,
    settings: GrpcStatusLayer,
}

impl<S> GrpcStatus<S> {
    pub(super) const fn new(inner: S, settings: GrpcStatusLayer) -> Self {
        Self { inner, settings }
    }
}

impl<S, B, RB> Service<Request<B>> for GrpcStatus<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    RB: Body + Send + 'static,
    RB::Data: Send,
    RB::Error: Send,
{
    type Response = Response<PeekedBody<RB>>;
    type Error = S::Error;
    type Future = GrpcStatusFuture<S::Future, RB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        GrpcStatusFuture {
            settings: self.settings,
            future: self.inner.call(request),
            reading: None,
        }
    }
}

type Reading<RB> = Pin<Box<dyn Future<Output = Response<PeekedBody<RB>>> + Send>>;

pin_project! {
    /// The future of a [`GrpcStatus`]'s response.
    #[must_use = "futures do nothing unless polled"]
    pub struct GrpcStatusFuture<F, RB: Body> {
        settings: GrpcStatusLayer,
        #[pin]
        future: F,
        reading: Option<Reading<RB>>,
    }
}

impl<F, E, RB> Future for GrpcStatusFuture<F, RB>
where
    F: Future<Output = Result<Response<RB>, E>>,
    RB: Body + Send + 'static,
    RB::Data: Send,
    RB::Error: Send,
{
    type Output = Result<Response<PeekedBody<RB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.reading.is_none() {
            let mut response = ready!(this.future.poll(cx))?;
            let settings = *this.settings;
            let has_status = response.headers().contains_key(STATUS);
            if has_status && is_grpc(&response) {
                let fields = response.headers().clone();
                settings.apply(&fields, &mut response);
            }
            let decided = has_status || !is_grpc(&response) || response.body().is_end_stream();
            if decided || Handle::try_current().is_err() {
                return Poll::Ready(Ok(response.map(PeekedBody::whole)));
            }
            *this.reading = Some(Box::pin(look(response, settings)));
        }
        match this.reading {
            Some(reading) => reading.as_mut().poll(cx).map(Ok),
            None => Poll::Pending,
        }
    }
}

impl<F, RB: Body> fmt::Debug for GrpcStatusFuture<F, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcStatusFuture").finish_non_exhaustive()
    }
}

/// Waits for the first frame, and looks at it if it is the trailers.
async fn look<RB: Body>(
    response: Response<RB>,
    settings: GrpcStatusLayer,
) -> Response<PeekedBody<RB>> {
    let (parts, body) = response.into_parts();
    let mut body = Box::pin(body);
    let first = timeout(settings.longest, body.frame()).await;
    let frame = first.ok().flatten();
    let trailers = match &frame {
        Some(Ok(frame)) => frame.trailers_ref().cloned(),
        _ => None,
    };
    let body = PeekedBody::begun(frame, body);
    let mut response = Response::from_parts(parts, body);
    if let Some(trailers) = trailers {
        settings.apply(&trailers, &mut response);
    }
    response
}

/// Whether it is an answer of gRPC that does not say by its own status that it refuses.
fn is_grpc<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    let grpc = b"application/grpc";
    response.status() == StatusCode::OK
        && kind.is_some_and(|kind| {
            let start = kind.as_bytes().get(..grpc.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(grpc))
        })
}

impl GrpcStatusLayer {
    fn apply<B>(&self, fields: &HeaderMap, response: &mut Response<B>) {
        let Some(meaning) = status::meaning(fields, self.any_exhaustion) else {
            return;
        };
        *response.status_mut() = meaning.status;
        let mut changed = Changed {
            pushback_added: false,
        };
        if let Some(pushback) = meaning.pushback
            && !response.headers().contains_key(PUSHBACK)
        {
            changed.pushback_added = true;
            response.headers_mut().insert(PUSHBACK, pushback);
        }
        response.extensions_mut().insert(changed);
    }
}
