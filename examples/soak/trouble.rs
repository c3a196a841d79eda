//! What can happen to one request at a server.

use std::{
    future::pending,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Full};
use tokio::time::{Sleep, sleep};
use tower::{BoxError, Service, ServiceExt};

/// What a request meets.
pub(crate) enum Trouble {
    /// An answer, but later.
    Delay(Duration),
    Hang,
    /// The connection is closed before the request is read in full.
    CutRequest,
    /// It is closed when the request has been processed, without an answer.
    CutAnswer,
    /// It is closed in the middle of the response.
    CutResponse,
    /// This status, optionally with `Retry-After` in seconds.
    Status(StatusCode, Option<u64>),
    /// Status 200 and this body.
    Body(&'static str),
}

/// The answer of `inner`, or the trouble.
pub(crate) async fn answer<S, B>(
    inner: S,
    mut request: Request<B>,
    trouble: Option<Trouble>,
) -> Result<Response<Either<Full<Bytes>, Cut>>, BoxError>
where
    S: Service<Request<B>, Response = Response<Full<Bytes>>, Error = BoxError>,
    B: Body + Unpin,
{
    let mut response = Response::new(Either::Left(Full::default()));
    match trouble {
        None => return Ok(inner.oneshot(request).await?.map(Either::Left)),
        Some(Trouble::Delay(time)) => {
            sleep(time).await;
            return Ok(inner.oneshot(request).await?.map(Either::Left));
        }
        Some(Trouble::Hang) => return pending().await,
        Some(Trouble::CutRequest) => {
            drop(request.body_mut().frame().await);
            return Err("request truncated".into());
        }
        Some(Trouble::CutAnswer) => {
            inner.oneshot(request).await?;
            return Err("response truncated".into());
        }
        Some(Trouble::CutResponse) => *response.body_mut() = Either::Right(Cut::new()),
        Some(Trouble::Status(status, retry_after)) => {
            *response.status_mut() = status;
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
        }
        Some(Trouble::Body(text)) => *response.body_mut() = Either::Left(text.into()),
    }
    Ok(response)
}

/// A body that breaks off a little after its first piece.
pub(crate) struct Cut {
    began: bool,
    pause: Pin<Box<Sleep>>,
}

impl Cut {
    fn new() -> Self {
        Self {
            began: false,
            // Time for the first piece to leave.
            pause: Box::pin(sleep(Duration::from_millis(20))),
        }
    }
}

impl Body for Cut {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !std::mem::replace(&mut self.began, true) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"{\"ok\":")))));
        }
        let broken = |()| Some(Err("response truncated".into()));
        self.pause.as_mut().poll(cx).map(broken)
    }
}
