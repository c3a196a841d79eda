//! What happens on one connection: how many requests are under way, and since when none is.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::now;

#[derive(Debug)]
pub(crate) struct Activity {
    state: Mutex<State>,
    /// No request is under way any more.
    idle: Notify,
    /// The peer does not take what is written.
    stalled: AtomicBool,
    /// It has not taken it for too long.
    write_timed_out: AtomicBool,
    /// A known caller has used the connection.
    known: AtomicBool,
    /// Another peer sent it, not a known caller.
    unauthenticated: Notify,
}

#[derive(Clone, Copy, Debug)]
struct State {
    started: bool,
    in_flight: usize,
    /// When the connection was accepted, or the last request ended.
    since: Instant,
}

/// A request whose answer is not written yet.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Activity>);

impl Activity {
    pub(crate) fn new(now: Instant) -> Arc<Self> {
        let state = State {
            started: false,
            in_flight: 0,
            since: now,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            idle: Notify::new(),
            stalled: AtomicBool::new(false),
            write_timed_out: AtomicBool::new(false),
            known: AtomicBool::new(false),
            unauthenticated: Notify::new(),
        })
    }

    /// A request's head has arrived.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.change(|state| {
            state.started = true;
            state.in_flight += 1;
        });
        InFlight(Arc::clone(self))
    }

    /// Whether any request has arrived.
    pub(crate) fn has_started(&self) -> bool {
        self.change(|state| state.started)
    }

    /// A request has come from a known caller.
    pub(crate) fn known(&self) {
        self.known.store(true, Relaxed);
    }

    /// Counts a request that is malformed or whose caller is unknown.
    pub(crate) fn unknown(&self) {
        if !self.known.load(Relaxed) {
            self.unauthenticated.notify_one();
        }
    }

    /// Waits until the connection was used, and not by a known caller.
    pub(crate) async fn mark_unauthenticated(&self) {
        self.unauthenticated.notified().await;
    }

    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Relaxed);
    }

    pub(crate) fn abort_writing(&self) {
        self.write_timed_out.store(true, Relaxed);
    }

    pub(crate) fn writing_was_aborted(&self) -> bool {
        self.write_timed_out.load(Relaxed)
    }

    /// Waits until no request has been under way for `later`, or for `first` if none has arrived.
    pub(crate) async fn idle_for(&self, first: Duration, later: Duration) {
        loop {
            let State {
                started: begun,
                in_flight: under_way,
                since,
            } = self.change(|state| *state);
            if under_way > 0 {
                self.idle.notified().await;
                continue;
            }
            let limit = if begun { later } else { first };
            let Some(end) = since.checked_add(limit) else {
                return std::future::pending().await;
            };
            if now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    }

    /// Waits until no request is under way and everything is written, and for `grace` more.
    pub(crate) async fn finished(&self, grace: Duration) {
        let asked = now();
        loop {
            let State {
                in_flight: under_way,
                since,
                ..
            } = self.change(|state| *state);
            if under_way > 0 {
                self.idle.notified().await;
                continue;
            }
            let end = since.max(asked) + grace;
            if now() >= end && !self.stalled.load(Relaxed) {
                return;
            }
            sleep_until(end.max(now() + STEP)).await;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Interval between two checks of a peer that does not take what is written.
const STEP: Duration = Duration::from_millis(50);

impl Drop for InFlight {
    fn drop(&mut self) {
        let ended = now();
        let left = self.0.change(|state| {
            state.in_flight -= 1;
            state.since = ended;
            state.in_flight
        });
        if left == 0 {
            self.0.idle.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_is_idle() {
        let activity = Activity::new(now());
        let began = now();

        activity.idle_for(seconds(10), seconds(60)).await;

        assert_eq!(now() - began, seconds(10));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_starts_when_the_last_request_ends() {
        let activity = Activity::new(now());
        let under_way = activity.begin();
        let began = now();
        tokio::spawn(async move {
            tokio::time::sleep(seconds(100)).await;
            drop(under_way);
        });

        activity.idle_for(seconds(10), seconds(60)).await;

        assert_eq!(now() - began, seconds(160));
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_still_being_written_is_not_finished() {
        let activity = Activity::new(now());
        activity.set_stalled(true);
        let waiting = tokio::spawn({
            let activity = Arc::clone(&activity);
            async move { activity.finished(seconds(1)).await }
        });
        tokio::time::sleep(seconds(100)).await;
        assert!(!waiting.is_finished());

        activity.set_stalled(false);

        waiting.await.unwrap();
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }
}
