//! The length of a window that the server does not announce, learned from throttling, and the times of probes.

use std::time::Duration;

use tokio::time::Instant;

use super::tuning::{
    COMMON_WINDOWS, HINT_RESOLUTION, LATENCY_TOLERANCE, PROBES_PER_RANGE, TIMER_RESOLUTION,
};
use crate::clock::add_capped;

/// An event at an unknown time between two bounds, inclusive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TimeRange {
    /// The lower bound.
    pub(super) earliest: Instant,
    /// The upper bound.
    pub(super) latest: Instant,
}

impl TimeRange {
    /// Creates an event at a known time.
    pub(super) fn at(moment: Instant) -> Self {
        Self {
            earliest: moment,
            latest: moment,
        }
    }
}

/// Bounds of the length of a window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bounds {
    /// The lower bound.
    min: Duration,
    /// The upper bound; `None` if there is none.
    max: Option<Duration>,
}

impl Bounds {
    /// A length without bounds.
    pub(super) const UNKNOWN: Self = Self {
        min: Duration::ZERO,
        max: None,
    };

    /// Creates the bounds of a length that is assumed.
    pub(super) fn exactly(length: Duration) -> Self {
        Self {
            min: length,
            max: Some(length),
        }
    }

    /// Returns the upper bound; `None` if there is none.
    pub(super) fn max(self) -> Option<Duration> {
        self.max
    }

    /// Creates bounds from the first request, which may lie in the middle of a window, to the next opening.
    pub(super) fn at_least(began: Instant, next: TimeRange) -> Self {
        Self {
            min: next.earliest.saturating_duration_since(began),
            max: None,
        }
    }

    /// Creates bounds from one opening to the next.
    pub(super) fn between(window_start: TimeRange, next: TimeRange) -> Self {
        Self {
            min: next.earliest.saturating_duration_since(window_start.latest),
            max: Some(next.latest.saturating_duration_since(window_start.earliest)),
        }
    }

    /// Returns the intersection of the bounds, or the newer ones if they contradict each other.
    pub(super) fn intersect(self, newer: Self) -> Self {
        let min = self.min.max(newer.min);
        let max = match (self.max, newer.max) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if max.is_some_and(|max| max + LATENCY_TOLERANCE < min) {
            newer
        } else {
            Self { min, max }
        }
    }

    /// Returns the earliest time at which the next window may open.
    pub(super) fn earliest_end(self, window_start: TimeRange) -> Instant {
        add_capped(window_start.earliest, self.min)
    }

    /// Returns the time by which the next window has opened, as far as is known.
    pub(super) fn latest_end(self, window_start: TimeRange) -> Instant {
        add_capped(window_start.latest, self.max.unwrap_or(self.min))
    }

    /// Returns the time of the next probe for the window after the one that `window_start`, later than `now`.
    ///
    /// `throttled_at` is the time at which the first request was throttled or kept back. Common lengths are probed
    /// first.
    ///
    /// - With an upper bound, [`PROBES_PER_RANGE`] probes are spread over the range in which the window can open.
    /// - Without any bound, probes are sent 1, 2 and 4 times [`HINT_RESOLUTION`] after the throttle.
    /// - Then probes are sent shortly after each common length, counted from the opening.
    /// - After the longest common length, probes are sent at intervals of that length.
    pub(super) fn next_probe(
        self,
        window_start: TimeRange,
        throttled_at: Instant,
        now: Instant,
    ) -> Instant {
        let soon = now + HINT_RESOLUTION / 2;
        if let Some(max) = self.max {
            let round = self.snap();
            // Probes begin at the one common length within the bounds, if there is only one.
            let (min, upper) = round.map_or((self.min, max), |round| (round, round));
            if let Some(probe) = probe_within(window_start, min, upper, now) {
                return probe;
            }
            // It was not that length: the whole range is probed.
            if let Some(probe) = round.and_then(|_| probe_within(window_start, self.min, max, now))
            {
                return probe;
            }
        } else if self.min == Duration::ZERO {
            // Nothing is known about the length: the first probes follow the throttle.
            let early = [1, 2, 4].map(|steps| add_capped(throttled_at, steps * HINT_RESOLUTION));
            if let Some(probe) = early.into_iter().find(|probe| *probe >= soon) {
                return probe;
            }
        }
        let min = add_capped(window_start.earliest, self.min);
        let rounds = COMMON_WINDOWS.iter().map(|seconds| {
            // Outside the tolerance, so that the result shows whether the window has that length.
            let length = Duration::from_secs(*seconds) + LATENCY_TOLERANCE + TIMER_RESOLUTION;
            add_capped(window_start.latest, length)
        });
        let probe = rounds
            .into_iter()
            .find(|probe| *probe >= soon && *probe >= min);
        probe.unwrap_or_else(|| {
            add_capped(
                now,
                Duration::from_secs(COMMON_WINDOWS[COMMON_WINDOWS.len() - 1]),
            )
        })
    }

    /// Returns the likely length: the one common length within the bounds, or else the upper bound.
    pub(super) fn likely_length(self) -> Option<Duration> {
        self.snap().or(self.max)
    }

    /// Returns the common length within the bounds, if there is exactly one.
    fn snap(self) -> Option<Duration> {
        let max = self.max? + LATENCY_TOLERANCE;
        let mut rounds = COMMON_WINDOWS
            .iter()
            .map(|seconds| Duration::from_secs(*seconds))
            .filter(|round| *round + LATENCY_TOLERANCE >= self.min && *round <= max);
        let first = rounds.next()?;
        rounds.next().is_none().then_some(first)
    }
}

/// Returns the greatest common length of at most `upper`.
pub(super) fn snap_down(upper: Duration) -> Option<Duration> {
    let rounds = COMMON_WINDOWS
        .iter()
        .map(|seconds| Duration::from_secs(*seconds));
    rounds.rev().find(|round| *round <= upper)
}

/// Returns the time of the next of a few probes for an opening that is `min` to `max` after the one before; `None`
/// if the opening must have passed.
fn probe_within(
    window_start: TimeRange,
    min: Duration,
    max: Duration,
    now: Instant,
) -> Option<Instant> {
    let earliest = add_capped(window_start.earliest, min);
    let latest = add_capped(window_start.latest, max);
    // One last probe a little later, in case that the server counts throttled requests, too.
    let last = latest + (max / 50).clamp(LATENCY_TOLERANCE, 2 * HINT_RESOLUTION);
    if now >= last {
        return None;
    }
    if now >= latest {
        return Some(last);
    }
    let span = latest.saturating_duration_since(earliest);
    let step = (span / PROBES_PER_RANGE).max(LATENCY_TOLERANCE);
    Some((now.max(earliest) + step).min(latest))
}
