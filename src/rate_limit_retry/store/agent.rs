//! The agent of a partition: a task that reports local state to the store and applies remote state to the gate.
//!
//! The agent waits for whichever comes first:
//!
//! - A notification: another process holds the partition. The agent subscribes again and makes the gate request a
//!   report.
//! - A report that the gate considers due. The agent sends it and passes the snapshot to the gate. If the store fails,
//!   the gate uses the local quota for a while, with exponential backoff.
//! - The end of use: the gate no longer knows the partition, or no request has used it for a while. The agent ends;
//!   the next request starts another one.
//!
//! Without working notifications, remote holds are received with the next report.
//!
//! # Failures
//!
//! | failure | effect |
//! |---|---|
//! | one report fails, or takes eight times as long as the ones before | the gate keeps its grants; the report is repeated |
//! | the repeated one fails as well or exceeds its time limit, or the entry is unreadable | the gate falls back; next report after 100 ms, growing to 5 s |
//! | notifications fail | subscribed again after the next successful report |
//! | the store panics while it is waited for | as above, but not before 1 s, growing to 60 s |
//! | the runtime shuts down, or user code panics | [`AgentGuard`] makes the gate fall back |
//!
//! The agent holds no lock across an `.await`, and never waits for a request.

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
    context::{AgentContext, ask_within, panic_error},
};
use crate::{
    backoff::Backoff,
    catch_panic::catch_panic,
    clock::add_capped,
    rate_limit_retry::{PartitionKey, gate::Action},
    store::{StoreError, StoreErrorKind},
};

/// The next action of an agent.
enum AgentEvent {
    /// Send this report to the store.
    Report(QuotaReport),
    /// Another process reported a change.
    Notified,
    /// The store's notifications failed.
    Unsubscribed,
    /// The store panicked while the agent was waiting for notifications.
    Panicked,
}

/// Runs the agent until the partition is no longer in use.
///
/// Sets `aborted` if it ends early.
pub(super) async fn run(shared: Arc<AgentContext>, key: PartitionKey, aborted: Arc<AtomicBool>) {
    let mut guard = AgentGuard {
        context: &shared,
        key: &key,
        aborted: &aborted,
        completed: false,
    };
    run_loop(&shared, &key).await;
    guard.completed = true;
}

/// A drop guard for a running agent.
///
/// If the agent ends early, because its runtime shuts down or user code panics, the gate stops waiting for its
/// report. The next request of the partition starts another agent.
struct AgentGuard<'a> {
    /// The context that the agents of a layer share.
    context: &'a AgentContext,
    /// The agent's partition.
    key: &'a PartitionKey,
    /// Set on drop, unless the agent has finished.
    aborted: &'a AtomicBool,
    /// Whether the agent has finished.
    completed: bool,
}

impl Drop for AgentGuard<'_> {
    fn drop(&mut self) {
        if self.completed {
            return;
        }
        self.aborted.store(true, Relaxed);
        let fall_back = || {
            let now = self.context.clock.now();
            self.context.gate.fall_back(self.key, now, now);
        };
        // The user's clock may be the code that panicked.
        drop(catch_unwind(AssertUnwindSafe(fall_back)));
    }
}

/// Runs the agent's loop: waits for a notification or for the gate's next action, and performs it.
///
/// The waker of the agent is registered in the gate by `next_action`, in each poll. While a report is being sent, the
/// gate does not wake the agent: the next iteration asks for the action again.
async fn run_loop(shared: &AgentContext, key: &PartitionKey) {
    let (gate, clock, store) = (&shared.gate, &shared.clock, &shared.quotas.store);
    let identity = shared.quotas.cache_key(key);
    let listen = || -> Notification<'_> {
        let identity = &identity;
        Box::pin(catch_panic(async move { store.changed(identity).await }))
    };
    let unsubscribed = || -> Notification<'_> { Box::pin(pending()) };
    let mut notification = listen();
    // When to subscribe again after a failure, and the number of panics so far.
    let (mut resubscribe_at, mut panics) = (None, 0);
    let mut failures = 0;
    let mut pace = ResponseTime::default();
    loop {
        let mut timer = pin!(sleep(Duration::ZERO));
        let event = poll_fn(|cx| {
            // Notifications first: a remote hold must not be delayed by local reports.
            match notification.as_mut().poll(cx) {
                Poll::Ready(Some(Ok(()))) => return Poll::Ready(Some(AgentEvent::Notified)),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(AgentEvent::Unsubscribed)),
                Poll::Ready(None) => return Poll::Ready(Some(AgentEvent::Panicked)),
                Poll::Pending => {}
            }
            let now = clock.now();
            match gate.next_action(key, shared.process, cx.waker(), now) {
                Action::Report(report) => return Poll::Ready(Some(AgentEvent::Report(report))),
                Action::Retire => return Poll::Ready(None),
                Action::Wait(at) => {
                    // The layer's clock may differ from the clock of the timers: poll again after the timer has
                    // fired.
                    timer.set(sleep(at.saturating_duration_since(now).max(MIN_SLEEP)));
                    if timer.as_mut().poll(cx).is_ready() {
                        cx.waker().wake_by_ref();
                    }
                }
            }
            Poll::Pending
        });
        match event.await {
            None => return,
            Some(AgentEvent::Notified) => {
                notification = listen();
                gate.request_sync(key);
            }
            Some(AgentEvent::Unsubscribed) => {
                (notification, resubscribe_at) = (unsubscribed(), Some(clock.now()))
            }
            Some(AgentEvent::Panicked) => {
                panics += 1;
                let wait = PANIC_BACKOFF.wait(panics, shared.random.unit());
                (notification, resubscribe_at) =
                    (unsubscribed(), Some(add_capped(clock.now(), wait)));
                shared.record_health(key, Some(&panic_error()));
            }
            Some(AgentEvent::Report(report)) => {
                let sent = clock.now();
                let call = async { store.report(&identity, &report).await };
                let limit = shared.quotas.timeout;
                // Not during an outage that other partitions have noticed.
                let is_first = failures == 0 && shared.is_healthy();
                let limit = if is_first {
                    pace.limit().min(MAX_LOST_AFTER).min(limit)
                } else {
                    limit
                };
                let reply = ask_within(limit, call).await;
                let lost = is_first && is_unavailable(&reply);
                if !lost {
                    shared.record_health(key, reply.as_ref().err());
                }
                match reply {
                    Ok(snapshot) => {
                        failures = 0;
                        pace.record(clock.now().saturating_duration_since(sent).min(limit));
                        // The store works again: subscribe again, unless a panic requires a longer pause.
                        if resubscribe_at.is_some_and(|at| at <= clock.now()) {
                            (notification, resubscribe_at) = (listen(), None);
                        }
                        shared.apply(key, &snapshot);
                    }
                    Err(_) => {
                        let now = clock.now();
                        if lost {
                            gate.repeat_report(key, add_capped(now, REPEAT_AFTER));
                        } else {
                            let wait = STORE_BACKOFF.wait(failures.max(1), shared.random.unit());
                            gate.fall_back(key, add_capped(now, wait), now);
                        }
                        failures += 1;
                    }
                }
            }
        }
    }
}

/// Returns whether the store was unreachable, timed out or returned an error.
fn is_unavailable<T>(reply: &Result<T, StoreError>) -> bool {
    let error = reply.as_ref().err();
    error.is_some_and(|error| error.kind() == StoreErrorKind::Unavailable)
}

/// How long the store takes to respond: a moving average.
#[derive(Clone, Copy, Debug, Default)]
struct ResponseTime(Option<Duration>);

impl ResponseTime {
    /// Records a response.
    fn record(&mut self, took: Duration) {
        self.0 = Some(self.0.map_or(took, |known| (known * 7 + took) / 8));
    }

    /// Returns the time after which a report is taken for lost: several times the average.
    fn limit(self) -> Duration {
        self.0.map_or(Duration::MAX, |known| {
            known.saturating_mul(LOST_AFTER).max(MIN_LOST_AFTER)
        })
    }
}

/// A boxed future of [`QuotaStore::changed`](super::QuotaStore::changed). Returns `None` if the store panics.
type Notification<'a> = Pin<Box<dyn Future<Output = Option<Result<(), StoreError>>> + Send + 'a>>;

/// Minimum duration of a timer. Keeps a clock that stands still from causing a busy loop.
const MIN_SLEEP: Duration = Duration::from_millis(1);
/// Pause before a report that was lost is repeated. Without the repetition, one lost packet would let a process send all of
/// its waiters at once.
const REPEAT_AFTER: Duration = Duration::from_millis(2);
/// Multiple of the average response time after which a report is taken for lost. To repeat one that was not costs a call.
const LOST_AFTER: u32 = 8;
/// Minimum of that time.
const MIN_LOST_AFTER: Duration = Duration::from_millis(10);
/// Maximum of that time. A repeated report arrives before the reservation of the process expires.
const MAX_LOST_AFTER: Duration = Duration::from_millis(250);
/// Backoff between reports to a store that has failed.
const STORE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Backoff between subscriptions to a store that has panicked.
const PANIC_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
