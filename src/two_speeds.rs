//! The two speeds of a response's future: polled by hand in the ordinary case, boxed in the others.

use std::{
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

pin_project! {
    /// A future and, now and then, another one that follows from its outcome. `O` is what comes of both.
    #[project = Project]
    pub(crate) enum TwoSpeeds<F, W, O> {
        /// The first attempt is under way. The ordinary case.
        Fast { #[pin] future: F, watch: W },
        /// Something is waited for, or sent again.
        Slow { future: Slow<O> },
    }
}

pub(crate) type Slow<O> = Pin<Box<dyn Future<Output = O> + Send>>;

/// What is kept of a call beside its first attempt, and decides what follows from the attempt's outcome.
pub(crate) trait Watch<T> {
    type Output;

    /// The outcome of the call, or how it goes on.
    fn conclude(&mut self, outcome: T) -> ControlFlow<Self::Output, Slow<Self::Output>>;
}

impl<F, W, O> TwoSpeeds<F, W, O> {
    pub(crate) fn fast(future: F, watch: W) -> Self {
        Self::Fast { future, watch }
    }

    pub(crate) fn slow(future: impl Future<Output = O> + Send + 'static) -> Self {
        let future = Box::pin(future);
        Self::Slow { future }
    }
}

impl<F, W> Future for TwoSpeeds<F, W, W::Output>
where
    F: Future,
    W: Watch<F::Output>,
{
    type Output = W::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<W::Output> {
        loop {
            let slow = match self.as_mut().project() {
                Project::Slow { future } => return future.as_mut().poll(cx),
                Project::Fast { future, watch } => {
                    let outcome = ready!(future.poll(cx));
                    match watch.conclude(outcome) {
                        ControlFlow::Break(outcome) => return Poll::Ready(outcome),
                        ControlFlow::Continue(slow) => slow,
                    }
                }
            };
            self.set(Self::Slow { future: slow });
        }
    }
}
