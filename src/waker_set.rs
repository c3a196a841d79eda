//! The wakers of those who wait for one thing.

use std::task::Waker;

/// Wakers by slot: a waiter keeps its slot from its first poll until it leaves.
#[derive(Debug, Default)]
pub(crate) struct WakerSet {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl WakerSet {
    /// Stores `waker` in the waiter's slot, taking one if it has none yet.
    pub(crate) fn register(&mut self, slot: &mut Option<usize>, waker: &Waker) {
        let index = *slot.get_or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            })
        });
        match self.slots.get_mut(index) {
            Some(Some(known)) => known.clone_from(waker),
            Some(empty) => *empty = Some(waker.clone()),
            None => {}
        }
    }

    /// Frees the waiter's slot.
    pub(crate) fn leave(&mut self, slot: &mut Option<usize>) {
        if let Some(index) = slot.take()
            && let Some(entry) = self.slots.get_mut(index)
        {
            *entry = None;
            self.free.push(index);
        }
    }

    /// All wakers, to be woken after the lock around this set is released.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Waker> + use<> {
        self.free.clear();
        std::mem::take(&mut self.slots).into_iter().flatten()
    }
}
