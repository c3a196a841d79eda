//! Waiting, by lengths of time: our clock need not be the one that tokio's timers use, and may lag behind it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use http::Response;
use http_body::Body;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

use super::{Call, Limiter};
use crate::{
    BoxError,
    drain::{drain_for, drain_limit, longest_drain},
    rate_limit_retry::{
        DeadlineExceeded,
        gate::{Place, Ticket, Turn},
    },
};

impl Limiter {
    /// Ends `future` at the call's deadline. `under_way` tells whether the request may then have been processed. Without a
    /// runtime there are no timers, and nothing ends it.
    pub(crate) async fn in_time<F: Future>(
        &self,
        call: &Call,
        under_way: bool,
        future: F,
    ) -> Result<F::Output, BoxError> {
        let Some(at) = call.deadline else {
            return Ok(future.await);
        };
        let left = at.saturating_duration_since(self.clock.now());
        if Handle::try_current().is_err() {
            return Ok(future.await);
        }
        let ended = timeout(left, future).await;
        ended.map_err(|_| Self::exceeded(call, under_way))
    }

    /// An error if nothing is left until the call's deadline: then the request must not be sent.
    pub(crate) fn check_deadline(&self, call: &Call) -> Result<(), BoxError> {
        match call.deadline {
            Some(at) if at <= self.clock.now() => Err(Self::exceeded(call, false)),
            _ => Ok(()),
        }
    }

    fn exceeded(call: &Call, under_way: bool) -> BoxError {
        DeadlineExceeded {
            possibly_processed: under_way || call.perhaps_processed,
        }
        .into()
    }

    /// Whether the response can be drained before the call's deadline, and something is left then.
    pub(crate) fn can_drain<RB: Body>(&self, call: &Call, response: &Response<RB>) -> bool {
        let longest = longest_drain(response, self.deadline);
        call.deadline
            .is_none_or(|at| at.saturating_duration_since(self.clock.now()) > longest)
    }

    /// Drains the response, if there is one, while it waits.
    pub(crate) async fn drain_and_wait<RB: Body>(
        &self,
        response: Option<Response<RB>>,
        wait: Duration,
    ) {
        let timer = (!wait.is_zero()).then(|| sleep(wait));
        if let Some(response) = response {
            drain_for(response, drain_limit(self.deadline)).await;
        }
        if let Some(timer) = timer {
            timer.await;
        }
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
