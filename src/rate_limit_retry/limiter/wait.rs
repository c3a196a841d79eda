//! Waiting, by lengths of time: our clock need not be the one that tokio's timers use, and may lag behind it.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use http::Response;
use http_body::Body;
use tokio::time::{Instant, sleep};

use super::{Call, Limiter};
use crate::{
    BoxError,
    call::drain::max_drain,
    rate_limit_retry::{
        DeadlineExceeded,
        gate::{Place, Ticket, Turn},
        quota::Learnt,
    },
};

impl Limiter {
    /// Time left until the call's deadline.
    pub(crate) fn time_left(&self, call: &Call) -> Option<Duration> {
        let deadline = call.deadline?;
        Some(deadline.saturating_duration_since(self.clock.now()))
    }

    /// `in_flight` says whether the request may have been processed.
    pub(crate) fn deadline_exceeded(call: &Call, in_flight: bool) -> BoxError {
        DeadlineExceeded {
            possibly_processed: in_flight || call.perhaps_processed,
        }
        .into()
    }

    /// The inner service is ready. `None` if the request must not be sent now, because a hold has begun since the ticket was
    /// given.
    ///
    /// # Errors
    ///
    /// [`DeadlineExceeded`], if nothing is left until the call's deadline.
    pub(crate) fn start(
        &self,
        call: &mut Call,
        ticket: Ticket,
    ) -> Result<Option<Ticket>, BoxError> {
        if self.is_overtaken(call, &ticket) {
            self.not_sent(ticket);
            return Ok(None);
        }
        if call.deadline.is_some_and(|at| at <= self.clock.now()) {
            self.not_sent(ticket);
            return Err(Self::deadline_exceeded(call, false));
        }
        Ok(Some(ticket))
    }

    /// Gives back a ticket that was not used.
    pub(crate) fn not_sent(&self, ticket: Ticket) {
        ticket.settle(Learnt::NotSent, self.clock.now());
    }

    /// Whether the response can be drained before the call's deadline, and something is left then.
    pub(crate) fn can_drain<RB: Body>(&self, call: &Call, response: &Response<RB>) -> bool {
        let longest = max_drain(response, self.deadline);
        call.deadline
            .is_none_or(|at| at.saturating_duration_since(self.clock.now()) > longest)
    }

    /// The ticket, when it is this place's turn. In the error, until when a partition is held, if it is known that this is
    /// later than `latest`; `None` if `latest` has come.
    pub(super) async fn turn(
        &self,
        mut place: Place,
        latest: Instant,
    ) -> Result<Ticket, Option<Instant>> {
        let left = latest.saturating_duration_since(self.clock.now());
        let mut expiry = pin!(sleep(left));
        let mut timer = pin!(sleep(left));
        poll_fn(|cx| {
            let (now, _) = self.clock.both();
            match place.poll(cx, now) {
                Turn::Ready(ticket) => return Poll::Ready(Ok(ticket)),
                Turn::TooLate(until) => return Poll::Ready(Err(Some(until))),
                Turn::Pending(None) => {}
                Turn::Pending(Some(at)) => {
                    let wait = at.saturating_duration_since(now);
                    timer.set(sleep(wait.clamp(TICK, UNSUSPENDED)));
                    if timer.as_mut().poll(cx).is_ready() {
                        cx.waker().wake_by_ref();
                    }
                }
            }
            if now >= latest {
                return Poll::Ready(Err(None));
            }
            expiry.as_mut().poll(cx).map(|()| Err(None))
        })
        .await
    }
}

/// Whatever the clock says, nobody looks again sooner than after this.
const TICK: Duration = Duration::from_millis(1);
/// tokio's timers stand still while the machine is suspended: whether it was is checked as often as this.
const UNSUSPENDED: Duration = Duration::from_secs(60);
