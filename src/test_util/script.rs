//! What the next requests meet instead of an ordinary answer.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::BoxError;

/// A queue of faults, and the one to fall back on once it is empty.
#[derive(Debug)]
pub(super) struct Script<F>(Mutex<State<F>>);

#[derive(Debug)]
struct State<F> {
    next: VecDeque<F>,
    always: Option<F>,
}

impl<F: Clone> Script<F> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State {
            next: VecDeque::new(),
            always: None,
        }))
    }

    pub(super) fn push(&self, fault: F) {
        lock(&self.0).next.push_back(fault);
    }

    pub(super) fn always(&self, fault: Option<F>) {
        lock(&self.0).always = fault;
    }

    /// The fault of the request at hand.
    pub(super) fn take(&self) -> Option<F> {
        let mut state = lock(&self.0);
        state.next.pop_front().or_else(|| state.always.clone())
    }
}

/// A list that forgets its oldest entries.
#[derive(Debug)]
pub(super) struct Record<T>(Mutex<VecDeque<T>>);

impl<T: Clone> Record<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    pub(super) fn push(&self, entry: T) {
        let mut entries = lock(&self.0);
        if entries.len() == MAX_RECORDED {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    pub(super) fn to_vec(&self) -> Vec<T> {
        lock(&self.0).iter().cloned().collect()
    }
}

/// A poisoned lock is recovered: what it guards is consistent after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error that makes the server close the connection, and that an in-process caller sees.
pub(super) fn reset() -> BoxError {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by script").into()
}

const MAX_RECORDED: usize = 10_000;
