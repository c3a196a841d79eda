//! The deadline of a call, and its timer.
//!
//! The deadline is a time of the layer's clock. The timer is set to the time that is left, because tokio's clock may
//! differ from the layer's. It is created when an attempt on the fast path does not complete at once: a response that is
//! there already needs none.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep},
};

use crate::{clock::add_capped, rate_limit_retry::boottime::BoottimeClock};

/// The time by which a call must end. As small as an [`Instant`]: each request in flight has one.
#[derive(Debug, Default)]
pub(crate) enum Deadline {
    /// No limit.
    #[default]
    None,
    /// A limit without a timer.
    At(Instant),
    /// A limit, and the timer of the first attempt.
    Timed(Pin<Box<Timer>>),
}

pin_project! {
    /// The timer of a deadline.
    #[derive(Debug)]
    pub(crate) struct Timer {
        at: Instant,
        #[pin]
        sleep: Sleep,
    }
}

impl Deadline {
    /// Returns the deadline of a call that starts now and may take as long as `limit`.
    #[inline]
    pub(super) fn after(limit: Option<Duration>, now: impl FnOnce() -> Instant) -> Self {
        /// Not inlined: most layers have no deadline.
        #[inline(never)]
        fn starting(now: impl FnOnce() -> Instant, limit: Duration) -> Deadline {
            Deadline::At(add_capped(now(), limit))
        }

        match limit {
            None => Self::None,
            Some(limit) => starting(now, limit),
        }
    }

    /// Returns the time. `None` without a limit.
    pub(super) fn at(&self) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::At(at) => Some(*at),
            Self::Timed(timer) => Some(timer.at),
        }
    }

    /// Polls the timer, which it creates if there is none. Pending without a limit, and outside a tokio runtime, where
    /// there are no timers.
    pub(super) fn poll(&mut self, clock: &BoottimeClock, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::At(at) = *self
            && Handle::try_current().is_ok()
        {
            let sleep = sleep(at.saturating_duration_since(clock.now()));
            *self = Self::Timed(Box::pin(Timer { at, sleep }));
        }
        match self {
            Self::None | Self::At(_) => Poll::Pending,
            Self::Timed(timer) => timer.as_mut().project().sleep.poll(cx),
        }
    }
}
