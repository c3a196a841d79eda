//! What was sent lately, refused or not.

use std::collections::VecDeque;

use tokio::time::Instant;

/// Times of sending, from old to new. What was sent at about the same time is remembered together, as if it were sent
/// with the last of them.
#[derive(Clone, Debug)]
pub(super) struct Log {
    grains: VecDeque<Grain>,
    count: u64,
}

#[derive(Clone, Copy, Debug)]
struct Grain {
    first: Instant,
    last: Instant,
    count: u64,
}

impl Log {
    /// So many were sent from `first` to `last`, evenly as far as is known.
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

    /// A request goes. Those before the last `needed` are forgotten.
    pub(super) fn sent(&mut self, needed: u64, now: Instant) {
        let begin = self.grains.front().map_or(now, |oldest| oldest.first);
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

    /// The last one did not go.
    pub(super) fn unsent(&mut self) {
        if let Some(back) = self.grains.back_mut() {
            self.count -= 1;
            back.count -= 1;
            if back.count == 0 {
                self.grains.pop_back();
            }
        }
    }

    /// How many were sent later than `start`.
    pub(super) fn since(&self, start: Instant) -> u64 {
        let later = self.grains.iter().rev();
        let later = later.take_while(|grain| grain.last > start);
        later.map(|grain| grain.count).sum()
    }

    /// When the one was sent that was the last but `later`.
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

/// What was sent within this part of the time that is remembered is one grain.
const GRAINS: u32 = 250;
const MOST: usize = 500;
/// Into so many grains a time is cut of which nothing but the ends is known.
const COARSE: u64 = 50;
