//! The two speeds of a response's future: polled by hand in the ordinary case, boxed in the others.

use std::{
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::BoxError;

pin_project! {
    /// The future of an `R`: a first attempt and, now and then, what follows from its outcome.
    #[project = Project]
    pub(crate) enum TwoSpeeds<F, W, R> {
        /// The first attempt is under way. The ordinary case.
        Fast { #[pin] future: F, watch: W },
        /// Something is waited for, or sent again.
        Slow { future: Slow<R> },
    }
}

pub(crate) type Slow<R> = Pin<Box<dyn Future<Output = Result<R, BoxError>> + Send>>;

/// What is kept of a call beside its first attempt, and says what follows from it.
pub(crate) trait Watch<R> {
    /// Whether nothing follows from the attempt's answer, as from most. It is looked at where it is: every response is
    /// moved once less.
    fn is_over(&self, answer: &R) -> bool;

    /// The outcome of the call, or how it goes on.
    fn conclude(
        &mut self,
        outcome: Result<R, BoxError>,
    ) -> ControlFlow<Result<R, BoxError>, Slow<R>>;
}

impl<F, W, R> TwoSpeeds<F, W, R> {
    pub(crate) fn fast(future: F, watch: W) -> Self {
        Self::Fast { future, watch }
    }

    pub(crate) fn slow(future: impl Future<Output = Result<R, BoxError>> + Send + 'static) -> Self {
        let future = Box::pin(future);
        Self::Slow { future }
    }
}

impl<F, W, R, E> Future for TwoSpeeds<F, W, R>
where
    F: Future<Output = Result<R, E>>,
    W: Watch<R>,
    E: Into<BoxError>,
{
    type Output = Result<R, BoxError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let slow = match self.as_mut().project() {
                Project::Slow { future } => return future.as_mut().poll(cx),
                Project::Fast { future, watch } => {
                    let outcome = ready!(future.poll(cx));
                    if let Ok(answer) = &outcome
                        && watch.is_over(answer)
                    {
                        return Poll::Ready(outcome.map_err(Into::into));
                    }
                    match watch.conclude(outcome.map_err(Into::into)) {
                        ControlFlow::Break(outcome) => return Poll::Ready(outcome),
                        ControlFlow::Continue(slow) => slow,
                    }
                }
            };
            self.set(Self::Slow { future: slow });
        }
    }
}
