//! The log of sends, throttled or not.

use std::collections::VecDeque;

use tokio::time::Instant;

/// A log of sends in chronological order, for sliding windows.
///
/// Sends at about the same time share one bucket ([`Grain`]) and count as sent with the last of them.
///
/// Because of the buckets, [`since`](Self::since) may count a few sends too many, and [`before`](Self::before) may
/// return a time that is a little too late.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// Buckets from old to new, at most [`MOST`].
    grains: VecDeque<Grain>,
    /// Number of sends in all buckets.
    count: u64,
}

/// A bucket of sends.
#[derive(Clone, Copy, Debug)]
struct Grain {
    /// Time of the first send.
    first: Instant,
    /// Time of the last send.
    last: Instant,
    /// Number of sends.
    count: u64,
}

impl Log {
    /// Creates a log of `count` sends from `first` to `last`, evenly spread, because more is not known.
    ///
    /// The sends are put into up to [`COARSE`] buckets of equal duration.
    pub(super) fn new(first: Instant, last: Instant, count: u64) -> Self {
        let parts = count.clamp(1, COARSE);
        let step = (last - first) / u32::try_from(parts).unwrap_or(1);
        let mut grains = VecDeque::new();
        let (mut begin, mut done) = (first, 0);
        for part in 1..=parts {
            let (end, until) = (begin + step, count * part / parts);
            grains.push_back(Grain {
                first: begin,
                last: end,
                count: until - done,
            });
            (begin, done) = (end, until);
        }
        Self { grains, count }
    }

    /// Records a send. Sends before the last `needed` ones are forgotten, as far as buckets end there.
    pub(super) fn sent(&mut self, needed: u64, now: Instant) {
        let begin = self.grains.front().map_or(now, |oldest| oldest.first);
        // The resolution is relative to the time that the log spans.
        let width = (now - begin) / GRAINS;
        self.count += 1;
        match self.grains.back_mut() {
            Some(back) if now - back.first <= width => {
                back.last = now;
                back.count += 1;
            }
            _ => self.grains.push_back(Grain {
                first: now,
                last: now,
                count: 1,
            }),
        }
        while let Some(oldest) = self.grains.front()
            && (self.count - oldest.count >= needed || self.grains.len() > MOST)
        {
            self.count -= oldest.count;
            self.grains.pop_front();
        }
    }

    /// Takes back the last send, which did not happen.
    pub(super) fn unsent(&mut self) {
        if let Some(back) = self.grains.back_mut() {
            self.count -= 1;
            back.count -= 1;
            if back.count == 0 {
                self.grains.pop_back();
            }
        }
    }

    /// Returns the number of sends after `start`.
    pub(super) fn since(&self, start: Instant) -> u64 {
        let later = self.grains.iter().rev();
        let later = later.take_while(|grain| grain.last > start);
        later.map(|grain| grain.count).sum()
    }

    /// Returns the time of the send that was followed by `later` others; `None` if the log has fewer.
    pub(super) fn before(&self, later: u64) -> Option<Instant> {
        let mut count = 0;
        let mut newest = self.grains.iter().rev();
        let grain = newest.find(|grain| {
            count += grain.count;
            count > later
        });
        grain.map(|grain| grain.last)
    }
}

/// Resolution of the log: sends within this fraction of the time that it spans share a bucket.
const GRAINS: u32 = 250;
/// Maximum number of buckets.
const MOST: usize = 500;
/// Number of buckets for a time of which only the ends are known.
const COARSE: u64 = 50;
