//! The task beside a partition that tells the store what happens here, and the gate what happens elsewhere.

use std::{
    future::{pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use tokio::time::sleep;

use super::{
    QuotaReport,
    context::{Shared, panicked},
};
use crate::{
    backoff::Backoff,
    clock::after,
    panics::surviving,
    rate_limit_retry::{PartitionKey, RateLimitEvent, gate::Duty},
    store::StoreError,
};

enum Step {
    Report(QuotaReport),
    /// Another process has told something.
    News,
    /// It cannot be heard what others tell.
    Deaf,
    /// The same, because the store panicked.
    Panicked,
}

/// Serves until nobody uses the partition any more.
pub(super) async fn serve(shared: Arc<Shared>, key: PartitionKey, lost: Arc<AtomicBool>) {
    let mut attendance = Attendance {
        shared: &shared,
        key: &key,
        lost: &lost,
        over: false,
    };
    attend(&shared, &key).await;
    attendance.over = true;
}

/// An agent at work. If it ends early, because its runtime ends or user code panics, the report that it was making is not
/// waited for, and the next request of the partition starts another agent.
struct Attendance<'a> {
    shared: &'a Shared,
    key: &'a PartitionKey,
    lost: &'a AtomicBool,
    over: bool,
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.lost.store(true, Relaxed);
        let alone = || {
            let now = self.shared.clock.now();
            self.shared.gate.go_alone(self.key, now, now);
        };
        // A clock of the user's may be what panicked.
        drop(catch_unwind(AssertUnwindSafe(alone)));
    }
}

async fn attend(shared: &Shared, key: &PartitionKey) {
    let (gate, clock, store) = (&shared.gate, &shared.clock, &shared.quotas.store);
    let identity = shared.quotas.identity(key);
    let listen = || -> Listening<'_> {
        let identity = &identity;
        Box::pin(surviving(async move { store.changed(identity).await }))
    };
    let deaf = || -> Listening<'_> { Box::pin(pending()) };
    let mut news = listen();
    // When it is listened again after a failure, and after how many panics.
    let (mut listens_at, mut panics) = (None, 0);
    let mut failures = 0;
    loop {
        let mut timer = pin!(sleep(Duration::ZERO));
        let step = poll_fn(|cx| {
            match news.as_mut().poll(cx) {
                Poll::Ready(Some(Ok(()))) => return Poll::Ready(Some(Step::News)),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Step::Deaf)),
                Poll::Ready(None) => return Poll::Ready(Some(Step::Panicked)),
                Poll::Pending => {}
            }
            let now = clock.now();
            match gate.duty(key, shared.process, cx.waker(), now) {
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
                news = listen();
                gate.ask_store(key);
            }
            Some(Step::Deaf) => (news, listens_at) = (deaf(), Some(clock.now())),
            Some(Step::Panicked) => {
                panics += 1;
                let wait = AFTER_PANICS.wait(panics, shared.random.unit());
                (news, listens_at) = (deaf(), Some(after(clock.now(), wait)));
                shared.note(key, Some(&panicked()));
            }
            Some(Step::Report(report)) => {
                let asked = async { store.report(&identity, &report).await };
                match shared.ask(key, asked).await {
                    Ok(view) => {
                        failures = 0;
                        if listens_at.is_some_and(|at| at <= clock.now()) {
                            (news, listens_at) = (listen(), None);
                        }
                        if let Some(held_for) = gate.inform(key, &view, clock.now()) {
                            shared.sinks.emit(&RateLimitEvent::HeldElsewhere {
                                partition: key,
                                held_for,
                            });
                        }
                    }
                    Err(_) => {
                        failures += 1;
                        let wait = PAUSES.wait(failures, shared.random.unit());
                        let now = clock.now();
                        gate.go_alone(key, after(now, wait), now);
                    }
                }
            }
        }
    }
}

/// `None` if the store panics.
type Listening<'a> = Pin<Box<dyn Future<Output = Option<Result<(), StoreError>>> + Send + 'a>>;

const TICK: Duration = Duration::from_millis(1);
/// How long nothing is told to a store that has failed.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// How long it is not listened to a store that panicked.
const AFTER_PANICS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
