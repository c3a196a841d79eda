//! The buffer budget that the bodies of one layer share, and its events.
//!
//! A body takes a [`BudgetShare`] of the budget and grows it with its buffer. The share is returned when the buffer is
//! freed: when the last copy is dropped, when the body fails, or when it exceeds the cap or the budget.
//!
//! The budget counts allocated bytes, not bytes of data: for a buffer of small frames its capacity, for a large frame
//! its length, for trailers an estimate of their table. It limits growth and reserves nothing: a body that exceeds it
//! is sent once and does not wait for others to finish.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::sinks::{EventType, Sinks};

/// An event of a buffered request body.
///
/// Passed to the closures set with [`on_event`](super::RequestBodyReplayLayer::on_event), without any lock held.
///
/// Emitted once for each body that exceeds the budget, on the task that reads the body.
///
/// # Examples
///
/// ```
/// use tower_m2m::replay::{ReplayEvent, RequestBodyReplayLayer};
///
/// let layer = RequestBodyReplayLayer::new().on_event(|event| match event {
///     ReplayEvent::OverBudget { budget, .. } => eprintln!("bodies keep {budget} bytes already"),
///     _ => {}
/// });
/// # drop(layer);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ReplayEvent {
    /// The bodies of the layer have used up the budget: this one is streamed and sent once.
    #[non_exhaustive]
    OverBudget {
        /// Maximum number of bytes that they may buffer together.
        budget: usize,
    },
}

/// The type of the events of request bodies.
pub(crate) struct ReplayEvents;

impl EventType for ReplayEvents {
    type Event<'a> = ReplayEvent;
}

/// A buffer budget. A body charges it when it buffers data, and returns all of it when its buffer is freed.
#[derive(Debug)]
pub(super) struct Budget {
    /// Maximum number of bytes.
    pub(super) max_total_bytes: usize,
    /// Sinks of the layer's events.
    pub(super) sinks: Sinks<ReplayEvents>,
    /// Number of bytes in use. Relaxed is enough: the counter guards no other data.
    buffered: AtomicUsize,
}

impl Budget {
    /// Creates a budget of which nothing is used.
    pub(super) fn new(budget: usize, sinks: Sinks<ReplayEvents>) -> Self {
        Self {
            max_total_bytes: budget,
            sinks,
            buffered: AtomicUsize::new(0),
        }
    }

    /// Returns the number of bytes in use.
    pub(super) fn buffered(&self) -> usize {
        self.buffered.load(Relaxed)
    }

    /// Emits [`ReplayEvent::OverBudget`]. The caller must not hold a lock.
    pub(super) fn emit_over_budget(&self) {
        let budget = self.max_total_bytes;
        self.sinks.emit(&ReplayEvent::OverBudget { budget });
    }
}

/// One body's share of the budget. Returned on drop.
///
/// It only grows: a body keeps all of its buffer or none of it.
///
/// Invariant: the sum of `bytes` over all shares is `Budget::buffered`, apart from a change in progress, and never
/// exceeds the maximum.
#[derive(Debug)]
pub(super) struct BudgetShare {
    /// The budget.
    max_total_bytes: Arc<Budget>,
    /// Number of bytes charged.
    bytes: usize,
}

impl BudgetShare {
    /// Creates an empty share.
    pub(super) fn new(memory: Arc<Budget>) -> Self {
        Self {
            max_total_bytes: memory,
            bytes: 0,
        }
    }

    /// Charges `bytes` more. Returns `false`, and charges nothing, if the budget does not allow it.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let budget = self.max_total_bytes.max_total_bytes;
        let more = |in_use: usize| in_use.checked_add(bytes).filter(|sum| *sum <= budget);
        let there = self
            .max_total_bytes
            .buffered
            // Checked and added in one step, so that bodies on several threads cannot exceed the budget together.
            .fetch_update(Relaxed, Relaxed, more)
            .is_ok();
        if there {
            self.bytes += bytes;
        }
        there
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.max_total_bytes.buffered.fetch_sub(self.bytes, Relaxed);
    }
}
