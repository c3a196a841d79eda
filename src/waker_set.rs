//! The wakers of those who wait for one thing.

use std::{collections::BTreeMap, task::Waker};

/// Wakers in the order of arrival: a waiter keeps its place until it leaves.
#[derive(Debug, Default)]
pub(crate) struct WakerSet {
    arrivals: u64,
    waiting: BTreeMap<u64, Option<Waker>>,
}

impl WakerSet {
    /// A place behind everybody else's.
    pub(crate) fn enter(&mut self) -> u64 {
        self.arrivals += 1;
        self.waiting.insert(self.arrivals, None);
        self.arrivals
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Stores the waker of the waiter that has that place, and returns the one that it replaces.
    ///
    /// Wakers run code of the executor when they are cloned and dropped: both is for the caller to do, while the lock
    /// around this set is not held.
    #[must_use = "to be dropped after the lock is released"]
    pub(crate) fn register(&mut self, place: u64, waker: Waker) -> Option<Waker> {
        match self.waiting.get_mut(&place) {
            Some(known) => known.replace(waker),
            None => Some(waker),
        }
    }

    /// Gives up a place. The waker is for the caller to drop, after the lock around this set is released.
    pub(crate) fn leave(&mut self, place: u64) -> Option<Waker> {
        self.waiting.remove(&place).flatten()
    }

    /// All wakers, to be woken after the lock around this set is released.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Waker> + use<> {
        std::mem::take(&mut self.waiting).into_values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_leaves_takes_the_waker_along_and_the_others_keep_their_order() {
        let mut set = WakerSet::default();
        let waker = Waker::noop();
        let places: Vec<_> = (0..3).map(|_| set.enter()).collect();
        for place in &places {
            assert!(set.register(*place, waker.clone()).is_none());
        }
        assert_eq!(set.len(), 3);
        assert!(places.is_sorted());

        assert!(set.leave(places[1]).is_some());
        assert!(set.leave(places[1]).is_none());

        // A place that was given up is not taken again.
        assert!(set.register(places[1], waker.clone()).is_some());
        assert_eq!(set.len(), 2);
        assert_eq!(set.take_all().count(), 2);
        assert_eq!(set.len(), 0);
    }
}
