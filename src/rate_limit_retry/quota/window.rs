//! A window that nobody announces: how many requests it takes and how long it lasts, learnt from refusals.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::after;

/// Something happened between two moments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Between {
    pub(super) earliest: Instant,
    pub(super) latest: Instant,
}

impl Between {
    pub(super) fn at(moment: Instant) -> Self {
        Self {
            earliest: moment,
            latest: moment,
        }
    }
}

/// How long windows last, at least and at most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Period {
    least: Duration,
    most: Option<Duration>,
}

impl Period {
    pub(super) const UNKNOWN: Self = Self {
        least: Duration::ZERO,
        most: None,
    };

    /// From the first request of all, which may have been in the middle of a window, to the next opening.
    pub(super) fn at_least(began: Instant, next: Between) -> Self {
        Self {
            least: next.earliest.saturating_duration_since(began),
            most: None,
        }
    }

    /// From one opening to the next.
    pub(super) fn from_to(opened: Between, next: Between) -> Self {
        Self {
            least: next.earliest.saturating_duration_since(opened.latest),
            most: Some(next.latest.saturating_duration_since(opened.earliest)),
        }
    }

    /// What both say; the newer one if they contradict each other.
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

    /// The next window opens at this time at the earliest.
    pub(super) fn start(self, opened: Between) -> Instant {
        after(opened.earliest, self.least)
    }

    /// The next window has opened by this time, as far as is known.
    pub(super) fn end(self, opened: Between) -> Instant {
        after(opened.latest, self.most.unwrap_or(self.least))
    }

    /// When the window after the one that `opened` is worth a look, later than `now`; `refused` is when the first
    /// request was refused or kept back. People choose round numbers: these come first.
    pub(super) fn next_look(self, opened: Between, refused: Instant, now: Instant) -> Instant {
        let soon = now + Duration::from_millis(500);
        if let Some(most) = self.most {
            let round = self.round();
            let (least, longest) = round.map_or((self.least, most), |round| (round, round));
            if let Some(look) = within(opened, least, longest, now) {
                return look;
            }
            if let Some(look) = round.and_then(|_| within(opened, self.least, most, now)) {
                return look;
            }
        } else if self.least == Duration::ZERO {
            let early = FIRST_LOOKS.iter().map(|wait| after(refused, *wait));
            if let Some(look) = early.into_iter().find(|look| *look >= soon) {
                return look;
            }
        }
        let least = after(opened.earliest, self.least);
        let rounds = ROUND
            .iter()
            .map(|seconds| after(opened.latest, Duration::from_secs(*seconds) + A_LITTLE));
        let look = rounds
            .into_iter()
            .find(|look| *look >= soon && *look >= least);
        look.unwrap_or_else(|| after(now, Duration::from_secs(ROUND[ROUND.len() - 1])))
    }

    /// How long windows last at most.
    pub(super) fn likely(self) -> Option<Duration> {
        self.round().or(self.most)
    }

    /// The one round number that it can be, if there is only one.
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

/// The longest round length that is not longer than this.
pub(super) fn round_below(longest: Duration) -> Option<Duration> {
    let rounds = ROUND.iter().map(|seconds| Duration::from_secs(*seconds));
    rounds.rev().find(|round| *round <= longest)
}

/// The next of a few looks at an opening that is `least` to `most` after the one before; `None` when it must be over.
fn within(opened: Between, least: Duration, most: Duration, now: Instant) -> Option<Instant> {
    let earliest = after(opened.earliest, least);
    let latest = after(opened.latest, most);
    // Not much later, in case that refused requests count, too.
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

/// Round trips and jitter blur what is known by so much.
const TOLERANCE: Duration = Duration::from_millis(150);
/// A look comes so much later than a round number, so that it tells whether it is that one.
const A_LITTLE: Duration = Duration::from_millis(160);
const LOOKS: u32 = 6;
const SHORTEST_STEP: Duration = Duration::from_millis(250);
const LATEST: Duration = Duration::from_secs(2);
/// After a refusal, when nothing is known.
const FIRST_LOOKS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// Lengths of windows that people choose, in seconds.
const ROUND: [u64; 37] = [
    1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 45, 50, 60, 61, 75, 90, 100, 120, 150, 180, 240, 300,
    400, 450, 500, 600, 750, 900, 1000, 1200, 1500, 1800, 2400, 3000, 3600, 7200,
];
