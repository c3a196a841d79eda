//! Event sinks: closures that are called without any lock held, and whose panics are caught.
//!
//! A layer shares its sinks with its services and background tasks. They are called on the task that caused the event, so
//! a slow sink delays that task.
//!
//! The closures set with `on_event` are called in the order in which they were set, those of the features `tracing` and
//! `metrics` before or after them. A sink that panics does not keep the next one from being called.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// A type of event. The event itself borrows its fields.
pub(crate) trait EventType: 'static {
    /// The event, borrowing for `'a`.
    type Event<'a>;
}

/// A closure that receives events.
type Sink<F> = Arc<dyn for<'a> Fn(&<F as EventType>::Event<'a>) + Send + Sync>;

/// The sinks of one layer, called in the order in which they were added.
pub(crate) struct Sinks<F: EventType>(Vec<Sink<F>>);

impl<F: EventType> Sinks<F> {
    /// Adds a sink, to be called after those added before.
    pub(crate) fn add(&mut self, sink: impl for<'a> Fn(&F::Event<'a>) + Send + Sync + 'static) {
        self.0.push(Arc::new(sink));
    }

    /// Calls every sink with `event`. The caller must not hold a lock.
    ///
    /// A sink may call methods of the layer's handles, also ones that emit events: no lock is held, and the list of
    /// sinks does not change after the layer is built.
    pub(crate) fn emit(&self, event: &F::Event<'_>) {
        for sink in &self.0 {
            // A sink is the user's code: the panic hook reports its panic, which must not fail a request.
            drop(catch_unwind(AssertUnwindSafe(|| sink(event))));
        }
    }
}

impl<F: EventType> Default for Sinks<F> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<F: EventType> Clone for Sinks<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: EventType> fmt::Debug for Sinks<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sinks({})", self.0.len())
    }
}
