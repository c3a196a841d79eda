//! Bodies that are observed: whose fault it is when one breaks, and what ends with it.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tower_m2m::BoxError;

use crate::answer;

/// A body that keeps something until it is dropped.
pub(crate) struct BodyWithGuard<T> {
    body: Body,
    _guard: T,
}

impl<T> BodyWithGuard<T> {
    pub(crate) fn new(body: Body, held: T) -> Self {
        Self { body, _guard: held }
    }
}

impl<T: Unpin> http_body::Body for BodyWithGuard<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What has become of a caller's body.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    /// The caller has not sent the next piece yet.
    waiting: AtomicBool,
    /// Why it broke.
    broken: OnceLock<String>,
}

impl Upload {
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }
}

/// A caller's body on its way to the upstream.
pub(crate) struct CallerBody<F> {
    body: Body,
    upload: Arc<Upload>,
    trailers: F,
}

impl<F> CallerBody<F> {
    /// `trailers` removes what is not passed on of them.
    pub(crate) fn new(body: Body, upload: Arc<Upload>, trailers: F) -> Self {
        Self {
            body,
            upload,
            trailers,
        }
    }
}

impl<F: Fn(&mut HeaderMap) + Unpin> http_body::Body for CallerBody<F> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        self.upload.waiting.store(polled.is_pending(), Relaxed);
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    (self.trailers)(trailers);
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let _ = self.upload.broken.set(answer::chain(error));
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How an answer's body has ended.
#[derive(Debug)]
pub(crate) enum End {
    Complete,
    /// The upstream's connection broke.
    Broke(String),
    /// The caller has left before the end.
    Left,
}

/// An upstream's body on its way to the caller.
pub(crate) struct AnswerBody<F: FnMut(End)> {
    body: Incoming,
    trailers: fn(&mut HeaderMap),
    /// Called once.
    ended: Option<F>,
}

impl<F: FnMut(End)> AnswerBody<F> {
    pub(crate) fn new(body: Incoming, trailers: fn(&mut HeaderMap), ended: F) -> Self {
        Self {
            body,
            trailers,
            ended: Some(ended),
        }
    }

    fn end(&mut self, end: End) {
        if let Some(mut ended) = self.ended.take() {
            ended(end);
        }
    }
}

impl<F: FnMut(End) + Unpin> http_body::Body for AnswerBody<F> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    (self.trailers)(trailers);
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let cause = answer::chain(error);
                self.end(End::Broke(cause));
            }
            Poll::Ready(None) => self.end(End::Complete),
            Poll::Pending => {}
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<F: FnMut(End)> Drop for AnswerBody<F> {
    fn drop(&mut self) {
        let end = match self.body.is_end_stream() {
            true => End::Complete,
            false => End::Left,
        };
        self.end(end);
    }
}
