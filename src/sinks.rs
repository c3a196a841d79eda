//! Where events go: plain closures, called outside every lock, whose panics change nothing.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// A kind of event; the event itself borrows what it tells.
pub(crate) trait Family: 'static {
    type Event<'a>;
}

type Sink<F> = Arc<dyn for<'a> Fn(&<F as Family>::Event<'a>) + Send + Sync>;

/// The sinks of one layer, called in the order in which they were added.
pub(crate) struct Sinks<F: Family>(Vec<Sink<F>>);

impl<F: Family> Sinks<F> {
    pub(crate) fn add(&mut self, sink: impl for<'a> Fn(&F::Event<'a>) + Send + Sync + 'static) {
        self.0.push(Arc::new(sink));
    }

    pub(crate) fn emit(&self, event: &F::Event<'_>) {
        for sink in &self.0 {
            // A sink is the user's code: its panic is reported by the panic hook and must not fail a request.
            drop(catch_unwind(AssertUnwindSafe(|| sink(event))));
        }
    }
}

impl<F: Family> Default for Sinks<F> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<F: Family> Clone for Sinks<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: Family> fmt::Debug for Sinks<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sinks({})", self.0.len())
    }
}
