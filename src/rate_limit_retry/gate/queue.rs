//! The queue of a partition.
//!
//! Both sets are ordered, so that the first waiter and the earliest deadline are found in O(log n), and a waiter can be
//! removed from the middle when its call is dropped.

use std::collections::BTreeSet;

use tokio::time::Instant;

/// The waiters of one partition, by sequence number: the request that arrived first is first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The sequence numbers of all waiters in the queue. A retry with an old number is inserted before requests that
    /// arrived later.
    sequences: BTreeSet<u64>,
    /// The deadlines of waiters that have one and were not returned by [`take_expiring`](Self::take_expiring) since
    /// they were inserted.
    deadlines: BTreeSet<(Instant, u64)>,
}

impl Queue {
    /// Inserts a waiter. Inserting it again restores its deadline.
    pub(super) fn insert(&mut self, sequence: u64, deadline: Option<Instant>) {
        self.sequences.insert(sequence);
        self.deadlines
            .extend(deadline.map(|deadline| (deadline, sequence)));
    }

    /// Removes a waiter. Returns whether it was in the queue.
    pub(super) fn remove(&mut self, sequence: u64, deadline: Option<Instant>) -> bool {
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, sequence));
        }
        self.sequences.remove(&sequence)
    }

    /// Returns whether the waiter is in the queue.
    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.sequences.contains(&sequence)
    }

    /// Returns the sequence number of the first waiter.
    pub(super) fn first(&self) -> Option<u64> {
        self.sequences.first().copied()
    }

    /// Returns the number of waiters in the queue.
    pub(super) fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Returns whether the queue has no waiters.
    pub(super) fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Returns the waiters whose deadline is before `until`. They stay in the queue, and are returned once.
    ///
    /// Returning them once keeps a long hold from waking the same waiters with every response. A waiter that can wait
    /// after all is [inserted](Self::insert) again. Cost: O(log n) for each waiter returned.
    pub(super) fn take_expiring(&mut self, until: Instant) -> Vec<u64> {
        let mut late = Vec::new();
        // Ordered by deadline: the first one that is not before `until` ends the search.
        while let Some((deadline, _)) = self.deadlines.first()
            && *deadline < until
            && let Some((_, sequence)) = self.deadlines.pop_first()
        {
            late.push(sequence);
        }
        late
    }
}
