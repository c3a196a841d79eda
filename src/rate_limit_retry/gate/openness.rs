//! The flag that admits requests on the fast path, past the gate.
//!
//! # Memory order
//!
//! The flag is stored with `Release` and loaded with `Acquire`. No other data is read because of it: a request
//! on the fast path uses only its own thread's copy of the keys. A stale value is harmless in both directions:
//!
//! | read | actual | effect |
//! |---|---|---|
//! | open | closed | the request is sent as if it had been in flight already; its response is recorded |
//! | closed | open | the request takes the gate's lock, and is admitted there |

use crate::sync::atomic::{AtomicBool, Ordering};

/// Whether a partition is open: it has no hold, no known window and no estimate from rejections, and no request waits
/// for it.
///
/// The gate writes it when that changes; every request reads it. It has 128 bytes of its own, because x86-64
/// prefetches cache lines in pairs and some Arm cores have lines of 128 bytes: a write next to it would slow down all
/// readers.
///
/// A request on the fast path is not counted as in flight. If its response carries something to record, the
/// gate counts it afterwards.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct FastPathFlag(AtomicBool);

impl FastPathFlag {
    /// Returns whether the partition is open.
    ///
    /// The value may be stale: a request that has read `true` may be sent shortly after the partition was closed,
    /// like one that was in flight already.
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Opens or closes the partition.
    pub(crate) fn set(&self, open: bool) {
        // Writers hold the gate's lock, so that no write comes between the load and the store. A cache line that is
        // only read stays in the caches of all readers.
        if self.get() != open {
            self.0.store(open, Ordering::Release);
        }
    }
}
