//! The queue of a partition.

use std::collections::BTreeSet;

use tokio::time::Instant;

/// The requests that a partition keeps back.
#[derive(Debug, Default)]
pub(super) struct Queue {
    arrivals: BTreeSet<u64>,
    /// Those that cannot wait for ever, by the time until which they can.
    deadlines: BTreeSet<(Instant, u64)>,
}

impl Queue {
    pub(super) fn insert(&mut self, arrival: u64, latest: Option<Instant>) {
        self.arrivals.insert(arrival);
        self.deadlines
            .extend(latest.map(|latest| (latest, arrival)));
    }

    pub(super) fn remove(&mut self, arrival: u64, latest: Option<Instant>) -> bool {
        if let Some(latest) = latest {
            self.deadlines.remove(&(latest, arrival));
        }
        self.arrivals.remove(&arrival)
    }

    pub(super) fn contains(&self, arrival: u64) -> bool {
        self.arrivals.contains(&arrival)
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.arrivals.first().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.arrivals.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Those that cannot wait until then. They stay in the queue, and are named once.
    pub(super) fn take_late(&mut self, until: Instant) -> Vec<u64> {
        let mut late = Vec::new();
        while let Some((latest, _)) = self.deadlines.first()
            && *latest < until
            && let Some((_, arrival)) = self.deadlines.pop_first()
        {
            late.push(arrival);
        }
        late
    }
}
