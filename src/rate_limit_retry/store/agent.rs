//! The agent of a partition: a task that reports local state to the store and applies remote state to the gate.
//!
//! The agent waits for whichever comes first:
//!
//! - A notification: another process holds the partition. The agent subscribes again and makes the gate request a
//!   report.
//! - A report that the gate considers due. The agent sends it and passes the answer to the gate. If the store fails,
//!   the gate uses the local quota for a while, with exponential backoff.
//! - The end of use: the gate no longer knows the partition, or no request has used it for a while. The agent ends;
//!   the next request starts another one.
//!
//! Without working notifications, remote holds are received with the next report.

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
    catch_panic::catch_panic,
    clock::add_capped,
    rate_limit_retry::{PartitionKey, RateLimitEvent, gate::Duty},
    store::StoreError,
};

/// The next action of an agent.
enum Step {
    /// Send this report to the store.
    Report(QuotaReport),
    /// Another process reported a change.
    News,
    /// The store's notifications failed.
    Deaf,
    /// The store panicked while the agent was waiting for notifications.
    Panicked,
}

/// Runs the agent until the partition is no longer in use.
///
/// Sets `lost` if it ends early.
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

/// A drop guard for a running agent.
///
/// If the agent ends early, because its runtime shuts down or user code panics, the gate stops waiting for its
/// report. The next request of the partition starts another agent.
struct Attendance<'a> {
    /// The context that the agents of a layer share.
    shared: &'a Shared,
    /// The agent's partition.
    key: &'a PartitionKey,
    /// Set on drop, unless the agent has finished.
    lost: &'a AtomicBool,
    /// Whether the agent has finished.
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
        // The user's clock may be the code that panicked.
        drop(catch_unwind(AssertUnwindSafe(alone)));
    }
}

/// Runs the agent's loop: waits for a notification or for the gate's next action, and performs it.
async fn attend(shared: &Shared, key: &PartitionKey) {
    let (gate, clock, store) = (&shared.gate, &shared.clock, &shared.quotas.store);
    let identity = shared.quotas.identity(key);
    let listen = || -> Listening<'_> {
        let identity = &identity;
        Box::pin(catch_panic(async move { store.changed(identity).await }))
    };
    let deaf = || -> Listening<'_> { Box::pin(pending()) };
    let mut news = listen();
    // When to subscribe again after a failure, and the number of panics so far.
    let (mut listens_at, mut panics) = (None, 0);
    let mut failures = 0;
    loop {
        let mut timer = pin!(sleep(Duration::ZERO));
        let step = poll_fn(|cx| {
            // Notifications first: a remote hold must not be delayed by local reports.
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
                    // The layer's clock may differ from the clock of the timers: poll again after the timer has
                    // fired.
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
                (news, listens_at) = (deaf(), Some(add_capped(clock.now(), wait)));
                shared.note(key, Some(&panicked()));
            }
            Some(Step::Report(report)) => {
                let asked = async { store.report(&identity, &report).await };
                match shared.ask(key, asked).await {
                    Ok(view) => {
                        failures = 0;
                        // The store works again: subscribe again, unless a panic requires a longer pause.
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
                        gate.go_alone(key, add_capped(now, wait), now);
                    }
                }
            }
        }
    }
}

/// A boxed future of [`QuotaStore::changed`](super::QuotaStore::changed). Returns `None` if the store panics.
type Listening<'a> = Pin<Box<dyn Future<Output = Option<Result<(), StoreError>>> + Send + 'a>>;

/// Minimum duration of a timer.
const TICK: Duration = Duration::from_millis(1);
/// Backoff between reports to a store that has failed.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Backoff between subscriptions to a store that has panicked.
const AFTER_PANICS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
