//! A cached result of discovery, with the time of its renewal. [pure]

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    backoff::Backoff,
    clock::add_capped,
    sync::{Mutex, lock},
};

/// A cached value. The fetch that gets a document writes it, and every token fetch reads it. It is replaced as a whole,
/// so that a reader never sees a partial update. The lock is never held across an `await`.
#[derive(Debug)]
pub(super) struct Cached<T>(Mutex<State<T>>);

/// State of a cached value.
///
#[derive(Debug)]
struct State<T> {
    /// The value. `None` before the first successful discovery.
    value: Option<T>,
    /// When the value must be renewed. `None` for at once.
    refresh_at: Option<Instant>,
    /// Number of consecutive failed renewals.
    failures: u32,
}

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self(Mutex::new(State {
            value: None,
            refresh_at: None,
            failures: 0,
        }))
    }
}

impl<T: Clone> Cached<T> {
    /// Returns the value, if there is one.
    pub(super) fn value(&self) -> Option<T> {
        lock(&self.0).value.clone()
    }

    /// Returns the value, and whether the caller must renew it.
    ///
    /// At most one caller within 5 s gets `true`.
    pub(super) fn value_and_due(&self, now: Instant) -> Option<(T, bool)> {
        let mut state = lock(&self.0);
        let value = state.value.clone()?;
        let due = state.refresh_at.is_none_or(|due| now >= due);
        if due {
            // Postpones the renewal for concurrent callers, which continue with the cached value. So only one caller
            // renews at a time.
            state.refresh_at = Some(add_capped(now, REFRESH_TIMEOUT));
        }
        Some((value, due))
    }

    /// Caches a value for its lifetime.
    pub(super) fn store(&self, value: T, now: Instant) -> T {
        let mut state = lock(&self.0);
        state.value = Some(value.clone());
        state.refresh_at = Some(add_capped(now, REFRESH_INTERVAL));
        state.failures = 0;
        value
    }

    /// Makes the next caller renew the value.
    pub(super) fn expire(&self) {
        lock(&self.0).refresh_at = None;
    }

    /// Postpones the next renewal after a failure, with exponential backoff.
    pub(super) fn back_off(&self, now: Instant, random: f64) {
        let mut state = lock(&self.0);
        state.failures = state.failures.saturating_add(1);
        state.refresh_at = Some(add_capped(now, BACKOFF.wait(state.failures, random)));
    }
}

/// Interval after which metadata is renewed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(3600);
/// Maximum duration of a renewal.
pub(super) const REFRESH_TIMEOUT: Duration = Duration::from_secs(5);
/// Backoff between failed renewals: initial and maximum interval.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(600));
