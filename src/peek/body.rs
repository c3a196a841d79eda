//! A body whose first frames may have been read ahead, and which still yields all of its frames.
//!
//! An error while reading ahead is kept in its place among the frames, so that the caller gets what it would have got
//! without reading ahead.
//!
//! | bound on reading ahead | value | exceeded |
//! |---|---|---|
//! | time | the layer's setting | reading stops; the body continues where it stopped |
//! | frames | [`MAX_FRAMES`] | the same |
//! | bytes | the callback `more` | the same |

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project_lite::pin_project;
use tokio::time::timeout;

pin_project! {
    /// A response body, a part of which may have been read ahead. Yields all of its frames, in order.
    ///
    /// # Errors
    ///
    /// Yields the errors of the original body.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{Request, Response, StatusCode};
    /// use http_body_util::{BodyExt, Full};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_m2m::{BoxError, rate_limit_retry::{PeekBodyLayer, PeekedBody}};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let http = service_fn(async |_: Request<()>| {
    ///     let answer = Response::builder().status(StatusCode::FORBIDDEN);
    ///     Ok::<_, BoxError>(answer.body(Full::from(&b"no plan"[..]))?)
    /// });
    ///
    /// let response = PeekBodyLayer::new().layer(http).oneshot(Request::new(())).await?;
    ///
    /// let body: PeekedBody<Full<&[u8]>> = response.into_body();
    /// assert_eq!(body.collect().await?.to_bytes(), "no plan");
    /// # Ok(())
    /// # }
    /// ```
    pub struct PeekedBody<B: Body> {
        // Frames that were read ahead and not yet yielded.
        frames: VecDeque<Result<Frame<Bytes>, B::Error>>,
        #[pin]
        // What has not been read.
        rest: RestOfBody<B>,
    }
}

pin_project! {
    #[project = RestProj]
    // What has not been read of a body.
    enum RestOfBody<B> {
        // Nothing was read ahead, so the body stays in place and is not boxed.
        Whole { #[pin] body: B },
        // Was read ahead. `None` once it has ended or failed, so that it is not polled again.
        Partial { body: Option<Pin<Box<B>>> },
    }
}

impl<B: Body> PeekedBody<B> {
    /// Wraps a body that was not read ahead.
    pub(crate) fn whole(body: B) -> Self {
        Self {
            frames: VecDeque::new(),
            rest: RestOfBody::Whole { body },
        }
    }

    /// Reads frames ahead until `more` returns `false` for a frame, the body ends or fails, `longest` has passed, or
    /// [`MAX_FRAMES`] have been read. Frames that were read are yielded later, also after a timeout.
    ///
    /// Needs a tokio runtime with timers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the body with the frames that were read: the response is lost, as when the caller
    /// drops it.
    pub(crate) async fn read_ahead(
        body: B,
        longest: Duration,
        mut more: impl FnMut(&Frame<Bytes>) -> bool,
    ) -> Self {
        let mut frames = VecDeque::new();
        // Boxed, because it is polled here and again by the caller, and must not move in between.
        let mut rest = Some(Box::pin(body));
        let reading = async {
            while let Some(body) = &mut rest {
                match body.frame().await.transpose() {
                    Ok(Some(frame)) => {
                        let frame = into_bytes(frame);
                        let enough = !more(&frame);
                        frames.push_back(Ok(frame));
                        if enough || frames.len() >= MAX_FRAMES {
                            break;
                        }
                    }
                    ended => {
                        // The error is yielded after the frames in front of it.
                        frames.extend(ended.err().map(Err));
                        rest = None;
                    }
                }
            }
        };
        // A timeout is not an error: the body continues where the reading stopped.
        drop(timeout(longest, reading).await);
        let rest = RestOfBody::Partial { body: rest };
        Self { frames, rest }
    }

    /// Returns what has not been read.
    fn rest(&self) -> Option<&B> {
        match &self.rest {
            RestOfBody::Whole { body } => Some(body),
            RestOfBody::Partial { body } => body.as_deref(),
        }
    }
}

impl<B: Body> Body for PeekedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        // Frames that were read ahead come first.
        if let Some(frame) = this.frames.pop_front() {
            return Poll::Ready(Some(frame));
        }
        let frame = match this.rest.project() {
            RestProj::Whole { body } => body.poll_frame(cx),
            RestProj::Partial { body: None } => return Poll::Ready(None),
            RestProj::Partial { body: Some(body) } => body.as_mut().poll_frame(cx),
        };
        frame.map(|frame| Some(frame?.map(into_bytes)))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let frames = self.frames.iter().flatten();
        // The body's own hint no longer includes what was read ahead.
        let ahead: usize = frames.filter_map(|f| Some(f.data_ref()?.len())).sum();
        let rest = self.rest().map(Body::size_hint);
        let rest = rest.unwrap_or_else(|| SizeHint::with_exact(0));
        let ahead = ahead as u64;
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint.set_lower(rest.lower().saturating_add(ahead));
        hint
    }
}

impl<B: Body> fmt::Debug for PeekedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeekedBody").finish_non_exhaustive()
    }
}

/// Maximum number of frames that are read ahead. A frame costs memory even if it is empty.
///
/// Without it, a server could send any number of empty frames within the time.
const MAX_FRAMES: usize = 1024;

/// Copies the data of a frame into `Bytes`, which is free for data that is `Bytes` already.
fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}
