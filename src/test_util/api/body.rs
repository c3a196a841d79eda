//! The body of a response: at once, slowly, or broken off.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::time::{Sleep, sleep};

use super::super::{BoxError, script::reset};

/// The body of a response of an [`Api`](super::Api).
///
/// Unless a fault applies, it is one piece. With [`ApiFault::Trickle`](super::ApiFault::Trickle) it arrives slowly, on tokio's
/// clock. With [`ApiFault::Truncate`](super::ApiFault::Truncate) it ends with an `io::Error` of kind
/// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset).
///
/// # Examples
///
/// ```
/// use http::Request;
/// use http_body_util::BodyExt;
/// use tower::ServiceExt;
/// use tower_m2m::{BoxError, test_util::{Api, ApiBody, ApiFault}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let api = Api::builder().in_process();
/// api.next(ApiFault::Truncate(5));
///
/// let request = Request::get(api.url()).body(String::new())?;
/// let body: ApiBody = api.service().oneshot(request).await?.into_body();
///
/// assert!(body.collect().await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a body does nothing before it is read"]
pub struct ApiBody {
    /// What is still to be sent.
    rest: Bytes,
    /// Number of bytes that were announced and never arrive.
    missing: u64,
    /// Maximum size of a piece, and the time before each one.
    pace: Option<(usize, Duration)>,
    /// The current wait.
    wait: Option<Pin<Box<Sleep>>>,
}

impl ApiBody {
    /// Creates a body that arrives in one piece.
    pub(super) const fn new(rest: Bytes) -> Self {
        Self {
            rest,
            missing: 0,
            pace: None,
            wait: None,
        }
    }

    /// Breaks the body off after `length` bytes, or before its last byte if it is shorter.
    pub(super) fn truncate(mut self, length: usize) -> Self {
        let kept = length.min(self.rest.len().saturating_sub(1));
        self.missing = self.rest.split_off(kept).len() as u64;
        self
    }

    /// Sends pieces of at most `size` bytes, each one after `interval`.
    pub(super) fn trickle(mut self, size: usize, interval: Duration) -> Self {
        self.pace = Some((size.max(1), interval));
        self
    }

    /// Waits for `time`, once for each piece.
    fn poll_wait(&mut self, cx: &mut Context<'_>, time: Duration) -> Poll<()> {
        let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(time)));
        ready!(wait.as_mut().poll(cx));
        self.wait = None;
        Poll::Ready(())
    }
}

impl From<Full<Bytes>> for ApiBody {
    fn from(mut body: Full<Bytes>) -> Self {
        // It is complete, and never pending.
        let frame = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
        let data = match frame {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            _ => Bytes::new(),
        };
        Self::new(data)
    }
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        if self.rest.is_empty() {
            ready!(self.poll_wait(cx, BREAK_DELAY));
            self.missing = 0;
            return Poll::Ready(Some(Err(reset())));
        }
        let mut size = self.rest.len();
        if let Some((most, interval)) = self.pace {
            ready!(self.poll_wait(cx, interval));
            size = size.min(most);
        }
        let piece = self.rest.split_to(size);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.missing == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64 + self.missing)
    }
}

/// Time between the last bytes of a truncated body and its error: a server sends what it has before it fails.
const BREAK_DELAY: Duration = Duration::from_millis(10);
