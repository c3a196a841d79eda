//! The log of sends, throttled or not.

use std::collections::VecDeque;

use tokio::time::Instant;

/// A log of sends in chronological order, for sliding windows.
///
/// Sends at about the same time share one bucket ([`Bucket`]) and count as sent with the last of them.
///
/// Because of the buckets, [`count_since`](Self::count_since) may count a few sends too many, and
/// [`nth_last`](Self::nth_last) may return a time that is a little too late.
#[derive(Clone, Debug)]
pub(super) struct SendLog {
    /// Buckets from old to new, at most [`MAX_BUCKETS`].
    buckets: VecDeque<Bucket>,
    /// Number of sends in all buckets.
    count: u64,
}

/// A bucket of sends.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Time of the first send.
    first: Instant,
    /// Time of the last send.
    last: Instant,
    /// Number of sends.
    count: u64,
}

impl SendLog {
    /// Creates a log of `count` sends from `first` to `last`, evenly spread, because more is not known.
    ///
    /// The sends are put into up to [`INITIAL_BUCKETS`] buckets of equal duration.
    pub(super) fn new(first: Instant, last: Instant, count: u64) -> Self {
        let parts = count.clamp(1, INITIAL_BUCKETS);
        let step = (last - first) / u32::try_from(parts).unwrap_or(1);
        let mut grains = VecDeque::new();
        let (mut begin, mut done) = (first, 0);
        for part in 1..=parts {
            let (end, until) = (begin + step, count * part / parts);
            grains.push_back(Bucket {
                first: begin,
                last: end,
                count: until - done,
            });
            (begin, done) = (end, until);
        }
        Self {
            buckets: grains,
            count,
        }
    }

    /// Records a send. Sends before the last `needed` ones are forgotten, as far as buckets end there.
    pub(super) fn push(&mut self, needed: u64, now: Instant) {
        let begin = self.buckets.front().map_or(now, |oldest| oldest.first);
        // The resolution is relative to the time that the log spans.
        let width = (now - begin) / BUCKETS_PER_LOG;
        self.count += 1;
        match self.buckets.back_mut() {
            Some(back) if now - back.first <= width => {
                back.last = now;
                back.count += 1;
            }
            _ => self.buckets.push_back(Bucket {
                first: now,
                last: now,
                count: 1,
            }),
        }
        while let Some(oldest) = self.buckets.front()
            && (self.count - oldest.count >= needed || self.buckets.len() > MAX_BUCKETS)
        {
            self.count -= oldest.count;
            self.buckets.pop_front();
        }
    }

    /// Takes back the last send, which did not happen.
    pub(super) fn pop(&mut self) {
        if let Some(back) = self.buckets.back_mut() {
            self.count -= 1;
            back.count -= 1;
            if back.count == 0 {
                self.buckets.pop_back();
            }
        }
    }

    /// Returns the number of sends after `start`.
    pub(super) fn count_since(&self, start: Instant) -> u64 {
        let later = self.buckets.iter().rev();
        let later = later.take_while(|grain| grain.last > start);
        later.map(|grain| grain.count).sum()
    }

    /// Returns the time of the send that was followed by `later` others; `None` if the log has fewer.
    pub(super) fn nth_last(&self, later: u64) -> Option<Instant> {
        let mut count = 0;
        let mut newest = self.buckets.iter().rev();
        let grain = newest.find(|grain| {
            count += grain.count;
            count > later
        });
        grain.map(|grain| grain.last)
    }
}

/// Resolution of the log: sends within this fraction of the time that it spans share a bucket.
const BUCKETS_PER_LOG: u32 = 250;
/// Maximum number of buckets.
const MAX_BUCKETS: usize = 500;
/// Number of buckets for a time of which only the ends are known.
const INITIAL_BUCKETS: u64 = 50;
