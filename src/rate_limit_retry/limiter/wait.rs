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

    /// The ticket, when it is this place's turn; `None` if that is not before `latest`.
    pub(super) async fn turn(&self, mut place: Place, latest: Instant) -> Option<Ticket> {
        let left = latest.saturating_duration_since(self.clock.now());
        let mut expiry = pin!(sleep(left));
        let mut timer = pin!(sleep(left));
        poll_fn(|cx| {
            let now = self.clock.now();
            match place.poll(cx, now) {
                Turn::Ready(ticket) => return Poll::Ready(Some(ticket)),
                Turn::Pending(None) => {}
                Turn::Pending(Some(at)) => {
                    timer.set(sleep(at.saturating_duration_since(now).max(TICK)));
                    if timer.as_mut().poll(cx).is_ready() {
                        cx.waker().wake_by_ref();
                    }
                }
            }
            expiry.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

/// Whatever the clock says, nobody looks again sooner than after this.
const TICK: Duration = Duration::from_millis(1);
