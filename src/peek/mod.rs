//! Inspection of the beginning of a response body, which is passed on complete.
//!
//! Two layers use it: [`PeekBodyLayer`](crate::rate_limit_retry::PeekBodyLayer) for rate-limit errors in JSON, and
//! [`GrpcStatusLayer`](crate::grpc::GrpcStatusLayer) for a `grpc-status` in the trailers. Both implement [`Inspect`].
//!
//! A response whose head is enough is passed on without an allocation. For others, the future that reads is boxed, and the
//! frames that were read are yielded again by [`PeekedBody`], in order and followed by the rest of the body.
//!
//! | state | on | next |
//! |---|---|---|
//! | the inner future is pending | an error | completes with it |
//! | the inner future is pending | a response that need not be read, or no runtime | completes, body unread |
//! | the inner future is pending | a response to be read | the inspection, boxed |
//! | the inspection is pending | its end, by a decision or a timeout | completes, body partly read ahead |

mod body;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::runtime::Handle;

pub use self::body::PeekedBody;

/// An inspection of responses: which ones, and what to do with them.
///
/// Implemented by the settings of a layer, which are `Copy`: a copy moves into the future of each response.
pub(crate) trait Inspect<RB: Body>: Copy + 'static {
    /// Returns whether the body must be read. Whatever the head alone decides may be applied here.
    fn should_read(&self, response: &mut Response<RB>) -> bool;

    /// Reads the beginning of the body, and changes the response accordingly.
    fn inspect(
        self,
        response: Response<RB>,
    ) -> impl Future<Output = Response<PeekedBody<RB>>> + Send + 'static;
}

pin_project! {
    /// The future of a response that `L` inspects.
    pub(crate) struct Inspecting<F, RB: Body, L> {
        #[pin]
        // The future of the response.
        future: F,
        // The inspection.
        inspector: L,
        // Reading the body, once [`Inspect`] asked for it. Boxed, because most responses need no reading.
        inspection: Option<Pin<Box<dyn Future<Output = Response<PeekedBody<RB>>> + Send>>>,
    }
}

impl<F, RB: Body, L> Inspecting<F, RB, L> {
    /// Wraps the future of a response.
    pub(crate) fn new(future: F, inspector: L) -> Self {
        Self {
            future,
            inspector,
            inspection: None,
        }
    }
}

impl<F, E, RB, L> Future for Inspecting<F, RB, L>
where
    F: Future<Output = Result<Response<RB>, E>>,
    RB: Body,
    L: Inspect<RB>,
{
    type Output = Result<Response<PeekedBody<RB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let inspection = match this.inspection {
            Some(inspection) => inspection,
            None => {
                let mut response = ready!(this.future.poll(cx))?;
                // Reading needs tokio's timer: without a runtime, the response is passed on unread.
                if !this.inspector.should_read(&mut response) || Handle::try_current().is_err() {
                    return Poll::Ready(Ok(response.map(PeekedBody::whole)));
                }
                this.inspection
                    .insert(Box::pin(this.inspector.inspect(response)))
            }
        };
        inspection.as_mut().poll(cx).map(Ok)
    }
}
