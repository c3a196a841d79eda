//! Scripted faults, and a record of requests.
//!
//! The doubles use locks of std, not of `crate::sync`: loom does not test them.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::BoxError;

/// A queue of faults, and the fault to use once it is empty.
#[derive(Debug)]
pub(super) struct Script<F>(Mutex<State<F>>);

/// The faults of a script.
#[derive(Debug)]
struct State<F> {
    /// Faults of the next requests, in order.
    next: VecDeque<F>,
    /// Fault of every request after those.
    always: Option<F>,
}

impl<F: Clone> Script<F> {
    /// Creates a script without faults.
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State {
            next: VecDeque::new(),
            always: None,
        }))
    }

    /// Adds a fault for one request.
    pub(super) fn push(&self, fault: F) {
        lock(&self.0).next.push_back(fault);
    }

    /// Sets the fault of every request once the queue is empty.
    pub(super) fn always(&self, fault: Option<F>) {
        lock(&self.0).always = fault;
    }

    /// Takes the fault of the current request.
    pub(super) fn take(&self) -> Option<F> {
        let mut state = lock(&self.0);
        state.next.pop_front().or_else(|| state.always.clone())
    }
}

/// A list that drops its oldest entries.
#[derive(Debug)]
pub(super) struct Record<T>(Mutex<VecDeque<T>>);

impl<T: Clone> Record<T> {
    /// Creates an empty record.
    pub(super) const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// Adds an entry, and drops the oldest one if the record is full.
    pub(super) fn push(&self, entry: T) {
        let mut entries = lock(&self.0);
        // Bounded, so that a load test does not run out of memory.
        if entries.len() == MAX_RECORDED {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// Returns the entries, oldest first.
    pub(super) fn to_vec(&self) -> Vec<T> {
        lock(&self.0).iter().cloned().collect()
    }
}

/// Locks `mutex`. A poisoned lock is recovered: what these locks guard is consistent after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the error that makes the server close the connection, and that an in-process caller gets.
pub(super) fn reset() -> BoxError {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by script").into()
}

/// Maximum number of recorded requests.
const MAX_RECORDED: usize = 10_000;
