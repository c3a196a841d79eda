//! A wrapper for bodies of other crates that can be copied.
//!
//! A function pointer instead of a trait: neither the body's type nor the trait belongs to the user's crate.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::ReplayableBody;

pin_project! {
    /// A body of a type that is not [`ReplayableBody`], with a function that copies it.
    ///
    /// For services that accept only one body type and cannot be given a [`ReplayBody`](super::ReplayBody): wrap above the
    /// layers that retry, and [unwrap](Self::into_inner) below them. The copies must be independent of each other.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Request;
    /// use tower::ServiceBuilder;
    /// use tower_m2m::{RateLimitRetryLayer, replay::CloneWith};
    ///
    /// # struct Body;
    /// # impl Body { fn try_clone(&self) -> Option<Self> { Some(Self) } }
    /// let layers = ServiceBuilder::new()
    ///     .map_request(|request: Request<Body>| {
    ///         request.map(|body| CloneWith::new(body, Body::try_clone))
    ///     })
    ///     .layer(RateLimitRetryLayer::new())
    ///     .map_request(|request: Request<CloneWith<Body>>| request.map(CloneWith::into_inner));
    /// # drop(layers);
    /// ```
    pub struct CloneWith<B> {
        #[pin]
        body: B,
        // Copies the body; `None` if it can be sent only once.
        try_clone: fn(&B) -> Option<B>,
    }
}

impl<B> CloneWith<B> {
    /// Wraps `body`. `try_clone` copies it, or returns `None` if it can be sent only once.
    ///
    /// `try_clone` must not copy a stream that both copies then share. It is called once per attempt, before the body
    /// is polled.
    #[must_use]
    pub const fn new(body: B, try_clone: fn(&B) -> Option<B>) -> Self {
        Self { body, try_clone }
    }

    /// Returns the body.
    #[must_use]
    pub fn into_inner(self) -> B {
        self.body
    }
}

impl<B> ReplayableBody for CloneWith<B> {
    fn try_clone(&self) -> Option<Self> {
        (self.try_clone)(&self.body).map(|body| Self::new(body, self.try_clone))
    }
}

impl<B: Body> Body for CloneWith<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for CloneWith<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloneWith").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn the_wrapper_delegates_everything_except_cloning() {
        let full = Full::new(Bytes::from("data"));
        let body = CloneWith::new(full, |full| Some(full.clone()));
        assert!(!body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(4));
        assert_eq!(format!("{body:?}"), "CloneWith { .. }");

        for copy in [body.try_clone().unwrap(), body] {
            assert_eq!(copy.collect().await.unwrap().to_bytes(), "data");
        }

        let once = CloneWith::new(Full::<Bytes>::default(), |_| None);
        assert!(once.is_end_stream());
        assert!(once.try_clone().is_none());
        assert!(once.into_inner().is_end_stream());
    }
}
