//! Future of a caller that waits for a fetch.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    runtime::Handle,
    time::{Sleep, sleep_until},
};

use super::{
    cache::TokenCache,
    in_flight::{InFlightFetch, Outcome, Waiter},
};

/// Future of a caller that waits for a fetch.
///
/// A timer on the caller's own runtime ends an overdue fetch, which no task runs because its runtime is blocked. The
/// caller then calls the cache again.
///
/// # Cancel safety
///
/// Dropping the future removes the caller from the waiters. The fetch continues.
pub(super) struct WaitFuture<'a> {
    /// The cache that the fetch belongs to.
    cache: &'a TokenCache,
    /// Place among the waiters of the fetch.
    waiter: Waiter,
    /// Fires when the fetch is overdue. `None` without a runtime, or once it has fired.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'a> WaitFuture<'a> {
    /// Registers a waiter. `None` if `limit` callers already wait.
    ///
    /// Without a runtime there is no timer, and an overdue fetch is noticed only by the next caller that needs a token.
    /// The timer is created before the place is taken: a waiter that exists is always complete.
    pub(super) fn new(
        cache: &'a TokenCache,
        fetch: Arc<InFlightFetch>,
        limit: usize,
    ) -> Option<Self> {
        let timer = Handle::try_current()
            .is_ok()
            .then(|| Box::pin(sleep_until(fetch.overdue_at())));
        let waiter = Waiter::new(fetch, limit)?;
        Some(Self {
            cache,
            waiter,
            timer,
        })
    }
}

impl Future for WaitFuture<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        // Polled before the waiter, so that the outcome of an abandoned fetch is returned by this poll.
        if let Some(timer) = &mut this.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            this.timer = None;
            this.cache.abandon(this.waiter.fetch());
        }
        this.waiter.poll(cx)
    }
}
