//! The bodies of requests and responses.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Either, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Error, ResponseFuture};
use pin_project_lite::pin_project;

use crate::{
    BoxError,
    replay::{Once, ReplayableBody},
};

pin_project! {
    /// The body of a request of a [`Client`](super::Client): bytes, or a stream.
    ///
    /// Bytes are sent again if the layers repeat the request. A stream is sent once, so that a request with one is not
    /// repeated.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::Full;
    /// use tower_m2m::client::RequestBody;
    ///
    /// let bodies = [
    ///     RequestBody::empty(),
    ///     "text".into(),
    ///     vec![1, 2].into(),
    ///     RequestBody::stream(Full::new(Bytes::from("sent once"))),
    /// ];
    /// # drop(bodies);
    /// ```
    pub struct RequestBody {
        #[pin]
        body: Either<Full<Bytes>, Once<UnsyncBoxBody<Bytes, BoxError>>>,
    }
}

impl RequestBody {
    /// Creates an empty body.
    #[must_use]
    pub fn empty() -> Self {
        Bytes::new().into()
    }

    /// Creates a body from a stream of frames, which is sent once.
    #[must_use]
    pub fn stream<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let body = body.map_err(Into::into).boxed_unsync();
        Self {
            body: Either::Right(Once::new(body)),
        }
    }
}

impl<T: Into<Bytes>> From<T> for RequestBody {
    fn from(bytes: T) -> Self {
        Self {
            body: Either::Left(Full::new(bytes.into())),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl ReplayableBody for RequestBody {
    fn try_clone(&self) -> Option<Self> {
        let body = self.body.try_clone()?;
        Some(Self { body })
    }

    fn is_intact(&self) -> bool {
        self.body.is_intact()
    }

    fn supersede(&self) -> bool {
        self.body.supersede()
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

pin_project! {
    /// The body of a response, as it arrives.
    ///
    /// # Examples
    ///
    /// ```
    /// use http_body_util::BodyExt;
    /// use tower_m2m::{BoxError, client::ResponseBody};
    ///
    /// async fn length(mut body: ResponseBody) -> Result<usize, BoxError> {
    ///     let mut length = 0;
    ///     while let Some(frame) = body.frame().await.transpose()? {
    ///         length += frame.data_ref().map_or(0, |data| data.len());
    ///     }
    ///     Ok(length)
    /// }
    /// ```
    pub struct ResponseBody {
        #[pin]
        body: Incoming,
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project().body.poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

pin_project! {
    /// The response of the connections, with the client's own body.
    pub(super) struct ConnectionFuture {
        #[pin]
        future: ResponseFuture,
    }
}

impl ConnectionFuture {
    /// Wraps the pool's future.
    pub(super) fn new(future: ResponseFuture) -> Self {
        Self { future }
    }
}

impl Future for ConnectionFuture {
    type Output = Result<http::Response<ResponseBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = self.project().future.poll(cx);
        answered
            .map_ok(|response| response.map(|body| ResponseBody { body }))
            .map_err(|error: Error| error.into())
    }
}
