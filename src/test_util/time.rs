//! When a double started, in tokio's time and in civil time.
#![expect(
    clippy::disallowed_methods,
    reason = "the doubles stand for other machines, which have clocks of their own"
)]

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// tokio's time.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// A start from which both clocks are read: the civil time is its value at the start plus what tokio's clock has
/// measured since, so that both stand still while time is paused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    started: Instant,
    wall: SystemTime,
}

impl Epoch {
    /// Starts now, at the given civil time or else the system's.
    pub(super) fn start(wall: Option<SystemTime>) -> Self {
        Self {
            started: Instant::now(),
            wall: wall.unwrap_or_else(SystemTime::now),
        }
    }

    /// The time since the start.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The civil time at `now`.
    pub(super) fn wall(&self, now: Duration) -> SystemTime {
        self.wall.checked_add(now).unwrap_or(self.wall)
    }
}
