//! The clocks of the test doubles: monotonic and wall-clock time since the start.
#![expect(
    clippy::disallowed_methods,
    reason = "the doubles simulate other machines, which have their own clocks"
)]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header::DATE};
use tokio::time::Instant;

/// Returns the current time of tokio's clock.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// The start time of a double on both clocks. The wall-clock time is its value at the start plus the time elapsed on tokio's
/// clock, so that both stand still while time is paused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    /// Start on tokio's clock.
    started: Instant,
    /// Wall-clock time at the start.
    wall: SystemTime,
}

impl Epoch {
    /// Starts now, at the given wall-clock time or the system's.
    pub(super) fn start(wall: Option<SystemTime>) -> Self {
        Self {
            started: Instant::now(),
            wall: wall.unwrap_or_else(SystemTime::now),
        }
    }

    /// Returns the time since the start.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Adds a `Date`, so that it agrees with the other times of the double while the clock is paused. A scripted one stays.
    pub(super) fn date(&self, headers: &mut HeaderMap) {
        let date = httpdate::fmt_http_date(self.wall_clock(self.now()));
        if let (false, Ok(date)) = (headers.contains_key(DATE), HeaderValue::try_from(date)) {
            headers.insert(DATE, date);
        }
    }

    /// Returns the wall-clock time at `now`, which is a time since the start.
    pub(super) fn wall_clock(&self, now: Duration) -> SystemTime {
        // A test may set a time near the limit of `SystemTime`.
        self.wall.checked_add(now).unwrap_or(self.wall)
    }
}
