//! A body, the beginning of which has been looked at, and which still arrives whole.

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
    /// A body, of which a part may have been read ahead.
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
        frames: VecDeque<Result<Frame<Bytes>, B::Error>>,
        #[pin]
        rest: Rest<B>,
    }
}

pin_project! {
    #[project = RestProj]
    enum Rest<B> {
        Whole { #[pin] body: B },
        Begun { body: Option<Pin<Box<B>>> },
    }
}

impl<B: Body> PeekedBody<B> {
    pub(crate) fn whole(body: B) -> Self {
        Self {
            frames: VecDeque::new(),
            rest: Rest::Whole { body },
        }
    }

    /// Reads frames ahead while each of them makes `more` wish for another, until the body ends, the time is over, or
    /// [`MOST_FRAMES`] have been read.
    pub(crate) async fn read_ahead(
        body: B,
        longest: Duration,
        mut more: impl FnMut(&Frame<Bytes>) -> bool,
    ) -> Self {
        let mut frames = VecDeque::new();
        let mut rest = Some(Box::pin(body));
        let reading = async {
            while let Some(body) = &mut rest {
                match body.frame().await.transpose() {
                    Ok(Some(frame)) => {
                        let frame = into_bytes(frame);
                        let enough = !more(&frame);
                        frames.push_back(Ok(frame));
                        if enough || frames.len() >= MOST_FRAMES {
                            break;
                        }
                    }
                    ended => {
                        frames.extend(ended.err().map(Err));
                        rest = None;
                    }
                }
            }
        };
        drop(timeout(longest, reading).await);
        let rest = Rest::Begun { body: rest };
        Self { frames, rest }
    }

    fn rest(&self) -> Option<&B> {
        match &self.rest {
            Rest::Whole { body } => Some(body),
            Rest::Begun { body } => body.as_deref(),
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
        if let Some(frame) = this.frames.pop_front() {
            return Poll::Ready(Some(frame));
        }
        let frame = match this.rest.project() {
            RestProj::Whole { body } => body.poll_frame(cx),
            RestProj::Begun { body: None } => return Poll::Ready(None),
            RestProj::Begun { body: Some(body) } => body.as_mut().poll_frame(cx),
        };
        frame.map(|frame| Some(frame?.map(into_bytes)))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let frames = self.frames.iter().flatten();
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

/// Maximum number of frames that are read ahead: a frame costs memory even if it holds no byte.
const MOST_FRAMES: usize = 1024;

fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}
