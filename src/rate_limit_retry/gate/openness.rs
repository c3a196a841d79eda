//! Whether requests skip the gate.

use crate::sync::atomic::{AtomicBool, Ordering};

/// Whether a partition is open: no hold, no known window, nothing learnt from refusals, nobody waits. Written by the
/// gate when that changes; on a cache line of its own, which every request reads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Openness(AtomicBool);

impl Openness {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, open: bool) {
        // A line that is only read stays with all who read it.
        if self.get() != open {
            self.0.store(open, Ordering::Release);
        }
    }
}
