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

    /// Stores the waker of who has that place.
    pub(crate) fn register(&mut self, place: u64, waker: &Waker) {
        match self.waiting.get_mut(&place) {
            Some(Some(known)) => known.clone_from(waker),
            Some(empty) => *empty = Some(waker.clone()),
            None => {}
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
