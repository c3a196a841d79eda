//! What the bodies of one layer may keep together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::sinks::{Family, Sinks};

/// Something happened to a body that was kept to be sent again.
///
/// Given to the closures set with [`on_event`](super::RequestBodyReplayLayer::on_event), outside every lock.
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
    /// The bodies of the layer keep as many bytes as they may: this one streams on and is sent once.
    #[non_exhaustive]
    OverBudget {
        /// How many bytes they may keep together.
        budget: usize,
    },
}

pub(crate) struct ReplayEvents;

impl Family for ReplayEvents {
    type Event<'a> = ReplayEvent;
}

/// Written by every body of a layer when it keeps something, and when it lets go of all that it has kept.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) budget: usize,
    pub(super) sinks: Sinks<ReplayEvents>,
    kept: AtomicUsize,
}

impl Memory {
    pub(super) fn new(budget: usize, sinks: Sinks<ReplayEvents>) -> Self {
        Self {
            budget,
            sinks,
            kept: AtomicUsize::new(0),
        }
    }

    pub(super) fn kept(&self) -> usize {
        self.kept.load(Relaxed)
    }

    pub(super) fn tell_over_budget(&self) {
        let budget = self.budget;
        self.sinks.emit(&ReplayEvent::OverBudget { budget });
    }
}

/// One body's share; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Share {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self { memory, bytes: 0 }
    }

    /// Takes so many bytes more; `false` if they are not there.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let budget = self.memory.budget;
        let more = |kept: usize| kept.checked_add(bytes).filter(|sum| *sum <= budget);
        let there = self
            .memory
            .kept
            .fetch_update(Relaxed, Relaxed, more)
            .is_ok();
        if there {
            self.bytes += bytes;
        }
        there
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.kept.fetch_sub(self.bytes, Relaxed);
    }
}
