//! Whether an announced quota refills continuously, and how fast.
//!
//! Some servers announce as reset the time at which the quota is full again. Such a reset is later the more has been
//! used, and a request is accepted long before it.

use std::time::Duration;

use tokio::time::Instant;

use super::tuning::{MAX_RATE_RATIO, MIN_EVIDENCE, RESET_TOLERANCE};
use crate::{clock::add_capped, rate_limit_retry::headers::Limit};

/// The refill of a quota.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refill {
    /// Units per second, as announced by the server or named by the profile.
    announced: Option<f64>,
    /// Units per second, as learned from the resets.
    learned: Option<f64>,
    /// The announcement with which later ones are compared.
    last: Option<Sample>,
    /// The last announcement.
    previous: Option<Sample>,
    /// Number of announcements in a row that agree with "the reset is the time when the quota is full".
    agreeing: u32,
}

/// One announcement.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// The limit.
    all: u64,
    /// The units that were used.
    used: u64,
    /// The announced reset.
    reset_at: Instant,
    /// Bounds of the time in which the whole quota refills, in seconds, if the reset is the time when it is full.
    full: (f64, f64),
}

impl Refill {
    /// Returns the units per second that are refilled, if they are known.
    pub(super) fn rate(self) -> Option<f64> {
        self.announced.or(self.learned).filter(|rate| *rate > 0.0)
    }

    /// Returns the time in which `units` are refilled.
    pub(super) fn time_for(self, units: f64) -> Option<Duration> {
        let seconds = units.max(0.0) / self.rate()?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Compares an announcement with the one before.
    ///
    /// In a window, the reset does not depend on what is used. In a bucket, `reset ÷ used` is constant.
    /// Values are rounded, so intervals are compared, and announcements count only if their resets differ by more than
    /// the tolerance.
    pub(super) fn observe(&mut self, limit: &Limit, remaining: u64, now: Instant) {
        self.announced = limit.refill.or(self.announced);
        let Some(sample) = Sample::new(limit, remaining, now) else {
            return;
        };
        let previous = self.previous.replace(sample);
        let Some(last) = self.last else {
            self.last = Some(sample);
            return;
        };
        let stayed = previous.is_some_and(|previous| sample.stayed_after(&previous));
        let full = (
            sample.full.0.max(last.full.0),
            sample.full.1.min(last.full.1),
        );
        if full.0 > full.1 || stayed {
            // Contradicts a bucket: a window, or another quota.
            (self.agreeing, self.learned, self.last) = (0, None, Some(sample));
        } else if sample.used < last.used || !last.is_precise() && sample.is_precise() {
            // Something was refilled, or this announcement is more precise: the comparison starts again.
            self.last = Some(sample);
        } else if sample.is_precise() && last.is_precise() && sample.moved_from(&last) {
            self.agreeing = self.agreeing.saturating_add(1);
            self.last = Some(sample);
            if self.agreeing >= MIN_EVIDENCE {
                self.learned = limit
                    .limit
                    .map(|limit| as_f64(limit) * 2.0 / (full.0 + full.1));
            }
        }
    }
}

impl Sample {
    /// Creates the sample of an announcement with a limit and a reset, of which something is used.
    fn new(limit: &Limit, remaining: u64, now: Instant) -> Option<Self> {
        let (all, reset) = (limit.limit?, limit.reset?);
        let used = all.checked_sub(remaining).filter(|used| *used > 0)?;
        let (seconds, tolerance) = (reset.as_secs_f64(), RESET_TOLERANCE.as_secs_f64());
        // What remains is rounded down: between `used - 1` and `used` are used.
        let full = (
            (seconds - tolerance).max(0.0) * as_f64(all) / (as_f64(used) + 0.5),
            (seconds + tolerance) * as_f64(all) / as_f64(used - 1).max(0.5),
        );
        Some(Self {
            all,
            used,
            reset_at: add_capped(now, reset),
            full,
        })
    }

    /// Returns whether the bounds are narrow enough to agree with another announcement. Any announcement can contradict
    /// one.
    fn is_precise(&self) -> bool {
        self.full.1 <= self.full.0 * MAX_RATE_RATIO
    }

    /// Returns whether more is used than before, and the reset is the same although it would be later in a bucket.
    fn stayed_after(&self, previous: &Self) -> bool {
        let more = self.used.saturating_sub(previous.used);
        // The time in which one unit is refilled, at least.
        let later = as_f64(more) * previous.full.0 / as_f64(self.all);
        let expected = later > 2.0 * RESET_TOLERANCE.as_secs_f64();
        expected && self.reset_at <= previous.reset_at + RESET_TOLERANCE
    }

    /// Returns whether more is used than before and the reset is later: in a window it would be the same.
    fn moved_from(&self, last: &Self) -> bool {
        self.used > last.used && self.reset_at > last.reset_at + RESET_TOLERANCE
    }
}

/// Converts a count, for computations with rates.
#[expect(clippy::cast_precision_loss, reason = "no real limit comes near 2^53")]
pub(super) fn as_f64(n: u64) -> f64 {
    n as f64
}
