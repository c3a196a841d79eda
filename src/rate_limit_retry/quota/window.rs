//! The length of a window that the server does not announce, learned from throttling, and the times of probes.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::add_capped;

/// An event at an unknown time between two bounds, inclusive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Between {
    /// The lower bound.
    pub(super) earliest: Instant,
    /// The upper bound.
    pub(super) latest: Instant,
}

impl Between {
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
pub(super) struct Period {
    /// The lower bound.
    least: Duration,
    /// The upper bound; `None` if there is none.
    most: Option<Duration>,
}

impl Period {
    /// A length without bounds.
    pub(super) const UNKNOWN: Self = Self {
        least: Duration::ZERO,
        most: None,
    };

    /// Creates bounds from the first request, which may lie in the middle of a window, to the next opening.
    pub(super) fn at_least(began: Instant, next: Between) -> Self {
        Self {
            least: next.earliest.saturating_duration_since(began),
            most: None,
        }
    }

    /// Creates bounds from one opening to the next.
    pub(super) fn from_to(opened: Between, next: Between) -> Self {
        Self {
            least: next.earliest.saturating_duration_since(opened.latest),
            most: Some(next.latest.saturating_duration_since(opened.earliest)),
        }
    }

    /// Returns the intersection of the bounds, or the newer ones if they contradict each other.
    pub(super) fn and(self, newer: Self) -> Self {
        let least = self.least.max(newer.least);
        let most = match (self.most, newer.most) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if most.is_some_and(|most| most + TOLERANCE < least) {
            newer
        } else {
            Self { least, most }
        }
    }

    /// Returns the earliest time at which the next window may open.
    pub(super) fn start(self, opened: Between) -> Instant {
        add_capped(opened.earliest, self.least)
    }

    /// Returns the time by which the next window has opened, as far as is known.
    pub(super) fn end(self, opened: Between) -> Instant {
        add_capped(opened.latest, self.most.unwrap_or(self.least))
    }

    /// Returns the time of the next probe for the window after the one that `opened`, later than `now`.
    ///
    /// `refused` is the time at which the first request was throttled or kept back. Common lengths are probed first.
    ///
    /// - With an upper bound, [`LOOKS`] probes are spread over the range in which the window can open.
    /// - Without any bound, probes are sent [`FIRST_LOOKS`] after the throttle.
    /// - Then probes are sent shortly after each common length, counted from the opening.
    /// - After the longest common length, probes are sent at intervals of that length.
    pub(super) fn next_look(self, opened: Between, refused: Instant, now: Instant) -> Instant {
        let soon = now + Duration::from_millis(500);
        if let Some(most) = self.most {
            let round = self.round();
            // Probes begin at the one common length within the bounds, if there is only one.
            let (least, longest) = round.map_or((self.least, most), |round| (round, round));
            if let Some(look) = within(opened, least, longest, now) {
                return look;
            }
            // It was not that length: the whole range is probed.
            if let Some(look) = round.and_then(|_| within(opened, self.least, most, now)) {
                return look;
            }
        } else if self.least == Duration::ZERO {
            // Nothing is known about the length: the first probes follow the throttle.
            let early = FIRST_LOOKS.iter().map(|wait| add_capped(refused, *wait));
            if let Some(look) = early.into_iter().find(|look| *look >= soon) {
                return look;
            }
        }
        let least = add_capped(opened.earliest, self.least);
        let rounds = ROUND
            .iter()
            .map(|seconds| add_capped(opened.latest, Duration::from_secs(*seconds) + A_LITTLE));
        let look = rounds
            .into_iter()
            .find(|look| *look >= soon && *look >= least);
        look.unwrap_or_else(|| add_capped(now, Duration::from_secs(ROUND[ROUND.len() - 1])))
    }

    /// Returns the likely length: the one common length within the bounds, or else the upper bound.
    pub(super) fn likely(self) -> Option<Duration> {
        self.round().or(self.most)
    }

    /// Returns the common length within the bounds, if there is exactly one.
    fn round(self) -> Option<Duration> {
        let most = self.most? + TOLERANCE;
        let mut rounds = ROUND
            .iter()
            .map(|seconds| Duration::from_secs(*seconds))
            .filter(|round| *round + TOLERANCE >= self.least && *round <= most);
        let first = rounds.next()?;
        rounds.next().is_none().then_some(first)
    }
}

/// Returns the greatest common length of at most `longest`.
pub(super) fn round_below(longest: Duration) -> Option<Duration> {
    let rounds = ROUND.iter().map(|seconds| Duration::from_secs(*seconds));
    rounds.rev().find(|round| *round <= longest)
}

/// Returns the time of the next of a few probes for an opening that is `least` to `most` after the one before; `None`
/// if the opening must have passed.
fn within(opened: Between, least: Duration, most: Duration, now: Instant) -> Option<Instant> {
    let earliest = add_capped(opened.earliest, least);
    let latest = add_capped(opened.latest, most);
    // One last probe a little later, in case that the server counts throttled requests, too.
    let last = latest + (most / 50).clamp(SHORTEST_STEP, LATEST);
    if now >= last {
        return None;
    }
    if now >= latest {
        return Some(last);
    }
    let span = latest.saturating_duration_since(earliest);
    let step = (span / LOOKS).max(SHORTEST_STEP);
    Some((now.max(earliest) + step).min(latest))
}

/// Uncertainty of measured bounds, due to round trips and jitter.
const TOLERANCE: Duration = Duration::from_millis(150);
/// Delay of a probe after a common length, so that its result tells whether the window has that length.
const A_LITTLE: Duration = Duration::from_millis(160);
/// Number of probes within the bounds of an opening.
const LOOKS: u32 = 6;
/// Minimum interval between two probes within the bounds.
const SHORTEST_STEP: Duration = Duration::from_millis(250);
/// Maximum delay of the last probe after the upper bound.
const LATEST: Duration = Duration::from_secs(2);
/// Delays of the first probes after a throttle, while nothing is known.
const FIRST_LOOKS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// Common lengths of windows, in seconds, in ascending order.
const ROUND: [u64; 37] = [
    1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 45, 50, 60, 61, 75, 90, 100, 120, 150, 180, 240, 300,
    400, 450, 500, 600, 750, 900, 1000, 1200, 1500, 1800, 2400, 3000, 3600, 7200,
];
