//! How a caller waits for a flight.

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
    cell::TokenCell,
    flight::{Flight, Outcome, Waiter},
};

/// One caller who waits for a flight, with a timer on the caller's own runtime: a flight that nobody drives, because
/// its runtime stands still, is taken over.
pub(super) struct Waiting<'a> {
    cell: &'a TokenCell,
    waiter: Waiter,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'a> Waiting<'a> {
    /// `None` if `limit` callers wait already.
    pub(super) fn new(cell: &'a TokenCell, flight: Arc<Flight>, limit: usize) -> Option<Self> {
        let timer = Handle::try_current()
            .is_ok()
            .then(|| Box::pin(sleep_until(flight.overdue_at())));
        let waiter = Waiter::new(flight, limit)?;
        Some(Self {
            cell,
            waiter,
            timer,
        })
    }
}

impl Future for Waiting<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        if let Some(timer) = &mut this.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            this.timer = None;
            this.cell.abandon(this.waiter.flight());
        }
        this.waiter.poll(cx)
    }
}
