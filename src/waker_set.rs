//! The wakers of the tasks that wait for one event.
//!
//! The set never wakes or drops a waker itself: it returns them, so that the caller can do so without its lock.

use std::{collections::BTreeMap, task::Waker};

/// Wakers in the order of arrival. A waiter keeps its place until it leaves.
///
/// | step | effect | complexity |
/// |---|---|---|
/// | `insert` | a place without a waker, behind all others | O(log n) |
/// | `register` | the waker of a place, replacing the former one | O(log n) |
/// | `remove` | the place is gone: its waiter left | O(log n) |
/// | `take_all` | all places are gone: the event happened | O(n) |
///
/// A place is never reused. A waiter whose place is gone checks the event instead of registering again.
#[derive(Debug, Default)]
pub(crate) struct WakerSet {
    /// Number of the latest place.
    last_key: u64,
    /// The waker of each place, in the order of arrival; `None` until the waiter registers one.
    waiting: BTreeMap<u64, Option<Waker>>,
}

impl WakerSet {
    /// Adds a waiter after all others, and returns its place.
    pub(crate) fn insert(&mut self) -> u64 {
        self.last_key += 1;
        self.waiting.insert(self.last_key, None);
        self.last_key
    }

    /// Returns the number of waiters.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Stores the waker of the waiter at `id`, and returns the one that it replaces.
    ///
    /// If the place was left, `waker` itself is returned. Cloning and dropping a waker runs the executor's code: the
    /// caller must do both while it does not hold the lock around this set.
    #[must_use = "to be dropped after the lock is released"]
    pub(crate) fn register(&mut self, id: u64, waker: Waker) -> Option<Waker> {
        match self.waiting.get_mut(&id) {
            // The place was left or woken already: the waiter is not registered again.
            Some(known) => known.replace(waker),
            None => Some(waker),
        }
    }

    /// Removes a waiter. The caller must drop the returned waker after it has released the lock around this set.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Waker> {
        self.waiting.remove(&id).flatten()
    }

    /// Removes all waiters and returns their wakers. The caller must wake them after it has released the lock around this
    /// set.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Waker> + use<> {
        std::mem::take(&mut self.waiting).into_values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_a_waker_keeps_the_order_of_the_others() {
        let mut set = WakerSet::default();
        let waker = Waker::noop();
        let places: Vec<_> = (0..3).map(|_| set.insert()).collect();
        for id in &places {
            assert!(set.register(*id, waker.clone()).is_none());
        }
        assert_eq!(set.len(), 3);
        assert!(places.is_sorted());

        assert!(set.remove(places[1]).is_some());
        assert!(set.remove(places[1]).is_none());

        // A place that was given up is not taken again.
        assert!(set.register(places[1], waker.clone()).is_some());
        assert_eq!(set.len(), 2);
        assert_eq!(set.take_all().count(), 2);
        assert_eq!(set.len(), 0);
    }
}
