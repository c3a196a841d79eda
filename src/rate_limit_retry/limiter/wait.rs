//! Waiting for admission.
//!
//! Timers are set to durations, not to points in time: the layer's clock may differ from the one of tokio's timers,
//! and may lag behind it.
//!
//! | clock | used for |
//! |---|---|
//! | the layer's ([`BoottimeClock`](crate::rate_limit_retry::boottime::BoottimeClock)) | holds, windows, deadlines |
//! | tokio's | the timers by which a task is woken |
//!
//! A timer that fires too early costs one poll. A timer that fires too late is corrected within [`MAX_SLEEP`].

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Response;
use http_body::Body;
use tokio::time::{Instant, sleep};

use super::{Call, Limiter, not_admitted::NotAdmitted};
use crate::{
    BoxError,
    call::drain::max_drain,
    rate_limit_retry::{
        DeadlineExceeded,
        gate::{Permit, Waiter, WaiterPoll},
        quota::Outcome,
    },
};

impl Limiter {
    /// Returns the time left until the call's deadline. `None` without a deadline.
    pub(crate) fn time_left(&self, call: &Call) -> Option<Duration> {
        let deadline = call.deadline.at()?;
        Some(deadline.saturating_duration_since(self.clock.now()))
    }

    /// Polls the timer of the call's deadline, for an attempt on the fast path.
    pub(crate) fn poll_deadline(&self, call: &mut Call, cx: &mut Context<'_>) -> Poll<()> {
        call.deadline.poll(&self.clock, cx)
    }

    /// Returns the error for a call whose deadline has passed. `in_flight`: whether the current attempt may have been
    /// processed.
    pub(crate) fn deadline_exceeded(call: &Call, in_flight: bool) -> BoxError {
        DeadlineExceeded {
            possibly_processed: in_flight || call.possibly_processed,
        }
        .into()
    }

    /// Checks a permit right before the send, once the inner service is ready.
    ///
    /// Returns `None` if the request must not be sent now, because a hold has begun since the permit was issued. In
    /// that case, and in case of an error, the permit is released.
    ///
    /// # Errors
    ///
    /// [`DeadlineExceeded`], if no time is left until the call's deadline.
    ///
    /// The hold is checked before the deadline: a call that is held has to wait, and its wait fails with
    /// [`RateLimited`](crate::rate_limit_retry::RateLimited), which names the partition.
    pub(crate) fn start(
        &self,
        call: &mut Call,
        permit: Permit,
    ) -> Result<Option<Permit>, BoxError> {
        if self.is_held(call, &permit) {
            self.not_sent(permit);
            return Ok(None);
        }
        if call.deadline.at().is_some_and(|at| at <= self.clock.now()) {
            self.not_sent(permit);
            return Err(Self::deadline_exceeded(call, false));
        }
        Ok(Some(permit))
    }

    /// Releases a permit that was not used.
    pub(crate) fn not_sent(&self, permit: Permit) {
        permit.settle(Outcome::NotSent, self.clock.now());
    }

    /// Returns whether the response can be drained before the call's deadline with time left for another attempt.
    ///
    /// Draining takes no time for a body that has ended, and otherwise up to a limit that a short deadline reduces.
    pub(crate) fn can_drain<RB: Body>(&self, call: &Call, response: &Response<RB>) -> bool {
        let longest = max_drain(response, self.deadline);
        let deadline = call.deadline.at();
        deadline.is_none_or(|at| at.saturating_duration_since(self.clock.now()) > longest)
    }

    /// Polls a waiter until the request is admitted.
    ///
    /// # Errors
    ///
    /// The request cannot be admitted, or not before `latest`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the waiter, which leaves the queues.
    ///
    /// The waiter returns the time of its next poll by the layer's clock. The timer is set to the difference, at least
    /// [`MIN_SLEEP`] and at most [`MAX_SLEEP`], and the clock is read again in each poll.
    pub(super) async fn wait_for_permit(
        &self,
        mut waiter: Waiter,
        latest: Instant,
    ) -> Result<Permit, NotAdmitted> {
        let left = latest.saturating_duration_since(self.clock.now());
        // Two timers: `expiry` is never reset, `timer` is set anew by each poll.
        let mut expiry = pin!(sleep(left));
        let mut timer = pin!(sleep(left));
        poll_fn(|cx| {
            let (now, _) = self.clock.now_and_wall();
            match waiter.poll(cx, now) {
                WaiterPoll::Ready(permit) => return Poll::Ready(Ok(permit)),
                WaiterPoll::TooLate(until) => {
                    return Poll::Ready(Err(NotAdmitted::TooLate(Some(until))));
                }
                WaiterPoll::CostTooHigh(partition, exceeded) => {
                    return Poll::Ready(Err(NotAdmitted::CostTooHigh(partition, exceeded)));
                }
                WaiterPoll::Pending(None) => {}
                WaiterPoll::Pending(Some(at)) => {
                    let wait = at.saturating_duration_since(now);
                    timer.set(sleep(wait.clamp(MIN_SLEEP, MAX_SLEEP)));
                    // The new timer must be polled to register the waker. One that is due already polls again.
                    if timer.as_mut().poll(cx).is_ready() {
                        cx.waker().wake_by_ref();
                    }
                }
            }
            if now >= latest {
                return Poll::Ready(Err(NotAdmitted::TooLate(None)));
            }
            let expired = expiry.as_mut().poll(cx);
            expired.map(|()| Err(NotAdmitted::TooLate(None)))
        })
        .await
    }
}

/// Minimum interval between two polls by timer, whatever the clock reads. Keeps a clock that stands still from causing
/// a busy loop.
const MIN_SLEEP: Duration = Duration::from_millis(1);
/// Maximum time between two checks of the clock. tokio's timers do not advance while the machine is suspended.
const MAX_SLEEP: Duration = Duration::from_secs(60);
