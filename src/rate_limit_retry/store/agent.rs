//! The task beside a partition that tells the store what happens here, and the gate what happens elsewhere.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::time::sleep;

use super::{QuotaReport, StoreFuture, sharing::Shared};
use crate::{
    backoff::Backoff,
    clock::after,
    rate_limit_retry::{PartitionKey, RateLimitEvent, gate::Duty},
};

enum Step {
    Report(QuotaReport),
    /// Another process has told something.
    News,
    /// It cannot be heard what others tell.
    Deaf,
}

/// Serves until nobody uses the partition any more.
pub(super) async fn serve(shared: Arc<Shared>, key: PartitionKey) {
    let (gate, clock, store) = (&shared.gate, &shared.clock, &shared.quotas.store);
    let identity = shared.quotas.identity(&key);
    let deaf = || -> StoreFuture<'_, ()> { Box::pin(pending()) };
    let (mut news, mut hears) = (store.changed(&identity), true);
    let mut failures = 0;
    loop {
        let mut timer = pin!(sleep(Duration::ZERO));
        let step = poll_fn(|cx| {
            match news.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Some(Step::News)),
                Poll::Ready(Err(_)) => return Poll::Ready(Some(Step::Deaf)),
                Poll::Pending => {}
            }
            let now = clock.now();
            match gate.duty(&key, shared.process, cx.waker(), now) {
                Duty::Report(report) => return Poll::Ready(Some(Step::Report(report))),
                Duty::Gone => return Poll::Ready(None),
                Duty::Wait(at) => {
                    // Our clock need not be the one that timers use.
                    timer.set(sleep(at.saturating_duration_since(now).max(TICK)));
                    if timer.as_mut().poll(cx).is_ready() {
                        cx.waker().wake_by_ref();
                    }
                }
            }
            Poll::Pending
        });
        match step.await {
            None => return,
            Some(Step::News) => {
                news = store.changed(&identity);
                gate.ask_store(&key);
            }
            Some(Step::Deaf) => (news, hears) = (deaf(), false),
            Some(Step::Report(report)) => {
                match shared.ask(&key, store.report(&identity, &report)).await {
                    Ok(view) => {
                        failures = 0;
                        if !hears {
                            (news, hears) = (store.changed(&identity), true);
                        }
                        if let Some(held_for) = gate.inform(&key, &view, clock.now()) {
                            shared.sinks.emit(&RateLimitEvent::HeldElsewhere {
                                partition: &key,
                                held_for,
                            });
                        }
                    }
                    Err(_) => {
                        failures += 1;
                        let wait = PAUSES.wait(failures, fastrand::f64());
                        let now = clock.now();
                        gate.go_alone(&key, after(now, wait), now);
                    }
                }
            }
        }
    }
}

const TICK: Duration = Duration::from_millis(1);
/// How long nothing is told to a store that has failed.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
