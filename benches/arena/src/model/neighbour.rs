//! Another client on the same quota.

use super::{FixedWindow, Model, Verdict};
use crate::job::Job;

/// When the neighbour sends its share.
#[derive(Clone)]
pub enum Schedule {
    /// All at once, at the start of each window.
    AtStart,
    /// Evenly over the whole window.
    Evenly,
    /// At random times within each window.
    AtRandom(fastrand::Rng),
}

/// A fixed window of which a neighbour needs `share` requests. It sends rejected requests again at the start of the
/// next window, so that it finally gets its share.
#[derive(Clone)]
pub struct Neighbour {
    inner: FixedWindow,
    share: u64,
    schedule: Schedule,
    /// The window that is planned, and the remaining send times of the neighbour in it, the last one first.
    planned: i64,
    upcoming: Vec<f64>,
    /// Number of rejected requests that it sends again.
    refused: usize,
}

impl Neighbour {
    pub fn new(inner: FixedWindow, share: u64, schedule: Schedule) -> Self {
        let planned = inner.number(0.0) - 1;
        Self {
            inner,
            share,
            schedule,
            planned,
            upcoming: Vec::new(),
            refused: 0,
        }
    }

    /// Plans the neighbour's requests of the next window.
    fn plan(&mut self) {
        self.planned += 1;
        let (start, end) = (
            self.inner.end(self.planned - 1),
            self.inner.end(self.planned),
        );
        let share = self.share as usize;
        let mut parts: Vec<f64> = match &mut self.schedule {
            Schedule::AtStart => vec![0.0; share],
            Schedule::Evenly => (0..share)
                .map(|n| (n as f64 + 0.5) / share as f64)
                .collect(),
            Schedule::AtRandom(random) => (0..share).map(|_| random.f64()).collect(),
        };
        parts.extend(std::iter::repeat_n(0.0, std::mem::take(&mut self.refused)));
        parts.sort_by(|a, b| b.total_cmp(a));
        self.upcoming = parts
            .iter()
            .map(|part| start + part * (end - start))
            .collect();
    }

    /// Takes the requests that the neighbour sends until `at`.
    fn advance(&mut self, at: f64, job: &Job) {
        let now = self.inner.number(at);
        loop {
            while self.upcoming.last().is_some_and(|next| *next <= at) {
                let sent = self.upcoming.pop().expect("one is left");
                let one = Job {
                    cost: 1,
                    ..job.clone()
                };
                let refused = self.inner.take(sent, &one).status != 200;
                self.refused += usize::from(refused);
            }
            if self.planned >= now {
                break;
            }
            self.plan();
        }
    }
}

impl Model for Neighbour {
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        self.advance(at, job);
        self.inner.take(at, job)
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        let mut ahead = self.clone();
        let mut at = at;
        // The neighbour may use all of the next windows, too, but in no scenario that of eight in a row.
        for _ in 0..8 {
            ahead.advance(at, job);
            let next = ahead.inner.earliest(at, job);
            if next <= at {
                break;
            }
            at = next;
        }
        at
    }
}
