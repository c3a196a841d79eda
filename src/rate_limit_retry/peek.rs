//! A bounded look at the body of a refusal, which still arrives whole.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project_lite::pin_project;
use tokio::{runtime::Handle, time::timeout};
use tower_layer::Layer;
use tower_service::Service;

/// Reads the beginning of the body of a 403 or 429 and puts it into the response's extensions, as a [`BodyStart`].
///
/// Goes *below* the rate-limit layer, whose
/// [`permanent_if`](super::RateLimitRetryLayerBuilder::permanent_if) then can tell a quota that no wait restores. The
/// body goes on whole; other responses are not touched.
///
/// # Examples
///
/// ```
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::PeekBodyLayer};
///
/// let limits = RateLimitRetryLayer::builder().permanent_if(|refusal| refusal.body().starts_with(b"no plan"));
/// let layers = tower::ServiceBuilder::new().layer(limits.build()).layer(PeekBodyLayer::new());
/// # drop(layers);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PeekBodyLayer {
    max_bytes: usize,
    longest: Duration,
}

impl PeekBodyLayer {
    /// Reads at most 8 KiB, for at most half a second.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_bytes: 8 * 1024,
            longest: Duration::from_millis(500),
        }
    }

    /// How many bytes are shown at most. Default: 8 KiB.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// For how long a body is waited for at most. Default: 500 ms.
    #[must_use]
    pub const fn max_time(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }
}

impl Default for PeekBodyLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for PeekBodyLayer {
    type Service = PeekBody<S>;

    fn layer(&self, inner: S) -> PeekBody<S> {
        PeekBody {
            inner,
            settings: *self,
        }
    }
}

/// Made by a [`PeekBodyLayer`].
#[derive(Clone, Debug)]
pub struct PeekBody<S> {
    inner: S,
    settings: PeekBodyLayer,
}

impl<S, B, RB> Service<Request<B>> for PeekBody<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    RB: Body + Send + 'static,
    RB::Data: Send,
    RB::Error: Send,
{
    type Response = Response<PeekedBody<RB>>;
    type Error = S::Error;
    type Future = PeekFuture<S::Future, RB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        PeekFuture {
            settings: self.settings,
            future: self.inner.call(request),
            reading: None,
        }
    }
}

type Reading<RB> = Pin<Box<dyn Future<Output = Response<PeekedBody<RB>>> + Send>>;

pin_project! {
    /// The future of a [`PeekBody`]'s response.
    #[must_use = "futures do nothing unless polled"]
    pub struct PeekFuture<F, RB: Body> {
        settings: PeekBodyLayer,
        #[pin]
        future: F,
        reading: Option<Reading<RB>>,
    }
}

impl<F, E, RB> Future for PeekFuture<F, RB>
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
            let response = ready!(this.future.poll(cx))?;
            let refused = matches!(
                response.status(),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::FORBIDDEN
            );
            if !refused || Handle::try_current().is_err() {
                return Poll::Ready(Ok(response.map(PeekedBody::whole)));
            }
            *this.reading = Some(Box::pin(look(response, *this.settings)));
        }
        match this.reading {
            Some(reading) => reading.as_mut().poll(cx).map(Ok),
            None => Poll::Pending,
        }
    }
}

impl<F, RB: Body> fmt::Debug for PeekFuture<F, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeekFuture").finish_non_exhaustive()
    }
}

async fn look<RB: Body>(
    response: Response<RB>,
    settings: PeekBodyLayer,
) -> Response<PeekedBody<RB>> {
    let (mut parts, body) = response.into_parts();
    let mut rest = Some(Box::pin(body));
    let (mut frames, mut start) = (VecDeque::new(), BytesMut::new());
    let reading = async {
        while let Some(body) = &mut rest
            && start.len() < settings.max_bytes
        {
            let frame = body.frame().await;
            match frame.transpose() {
                Ok(Some(frame)) => {
                    let frame = into_bytes(frame);
                    if let Some(data) = frame.data_ref() {
                        let left = settings.max_bytes - start.len();
                        start.extend_from_slice(&data[..data.len().min(left)]);
                    }
                    frames.push_back(Ok(frame));
                }
                ended => {
                    frames.extend(ended.err().map(Err));
                    rest = None;
                }
            }
        }
    };
    drop(timeout(settings.longest, reading).await);
    parts.extensions.insert(BodyStart(start.freeze()));
    let rest = Rest::Begun { body: rest };
    Response::from_parts(parts, PeekedBody { frames, rest })
}

fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

/// The beginning of a refusal's body, in the extensions of its response.
#[derive(Clone)]
pub struct BodyStart(Bytes);

impl BodyStart {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Says how many bytes there are, and not which.
impl fmt::Debug for BodyStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyStart({} bytes)", self.0.len())
    }
}

pin_project! {
    /// A body, of which a part may have been read ahead.
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

    /// `first` has been read of `body`, which goes on.
    pub(crate) fn begun(
        first: Option<Result<Frame<B::Data>, B::Error>>,
        body: Pin<Box<B>>,
    ) -> Self {
        Self {
            frames: first
                .map(|frame| frame.map(into_bytes))
                .into_iter()
                .collect(),
            rest: Rest::Begun { body: Some(body) },
        }
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
