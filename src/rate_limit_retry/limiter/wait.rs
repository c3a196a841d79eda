//! Waiting, by lengths of time: our clock need not be the one that tokio's timers use, and may lag behind it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{Call, Limiter};
use crate::{
    BoxError,
    rate_limit_retry::{
        DeadlineExceeded,
        gate::{Place, Ticket, Turn},
    },
};

impl Limiter {
    /// Ends `future` at the call's deadline. `under_way` tells whether the request may then have been processed.
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
        timeout(left, future).await.map_err(|_| {
            DeadlineExceeded {
                possibly_processed: under_way,
            }
            .into()
        })
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
