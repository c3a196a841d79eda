//! A look at the beginning of a response's body, which still arrives whole.

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

/// Which responses are looked at, and what for.
pub(crate) trait Look<RB: Body>: Copy + 'static {
    /// Whether the body must be looked at; what the head says may be put to use here.
    fn wants_body(&self, response: &mut Response<RB>) -> bool;

    fn look(
        self,
        response: Response<RB>,
    ) -> impl Future<Output = Response<PeekedBody<RB>>> + Send + 'static;
}

pin_project! {
    /// The future of a response that `L` looks at.
    pub(crate) struct Looking<F, RB: Body, L> {
        #[pin]
        future: F,
        look: L,
        looked: Option<Pin<Box<dyn Future<Output = Response<PeekedBody<RB>>> + Send>>>,
    }
}

impl<F, RB: Body, L> Looking<F, RB, L> {
    pub(crate) fn new(future: F, look: L) -> Self {
        Self {
            future,
            look,
            looked: None,
        }
    }
}

impl<F, E, RB, L> Future for Looking<F, RB, L>
where
    F: Future<Output = Result<Response<RB>, E>>,
    RB: Body,
    L: Look<RB>,
{
    type Output = Result<Response<PeekedBody<RB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let looked = match this.looked {
            Some(looked) => looked,
            None => {
                let mut response = ready!(this.future.poll(cx))?;
                if !this.look.wants_body(&mut response) || Handle::try_current().is_err() {
                    return Poll::Ready(Ok(response.map(PeekedBody::whole)));
                }
                this.looked.insert(Box::pin(this.look.look(response)))
            }
        };
        looked.as_mut().poll(cx).map(Ok)
    }
}
