//! Which POSTs the API has seen: none may arrive again that may have been processed.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One byte for each call, by its number.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    states: Vec<State>,
    twice: u64,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Unseen,
    /// Answered 401 or 429, which promise that nothing was done.
    Refused,
    /// Under way, answered otherwise, or broken off.
    MaybeProcessed,
}

impl Ledger {
    /// The head of POST `number` has arrived.
    pub(crate) fn arrived(&self, number: usize) {
        let mut entries = self.lock();
        if entries.states.len() <= number {
            // Sixteen thousand at a time, so that the memory grows in steps that do not depend on the load.
            let length = (number + 1).next_multiple_of(16 * 1024);
            entries.states.resize(length, State::Unseen);
        }
        if entries.states[number] == State::MaybeProcessed {
            entries.twice += 1;
        }
        entries.states[number] = State::MaybeProcessed;
    }

    /// POST `number` is rejected.
    pub(crate) fn refused(&self, number: usize) {
        self.lock().states[number] = State::Refused;
    }

    /// How many arrived again although they may have been processed.
    pub(crate) fn twice(&self) -> u64 {
        self.lock().twice
    }

    /// How many may have been processed.
    pub(crate) fn processed(&self) -> usize {
        let entries = self.lock();
        let states = entries.states.iter();
        states.filter(|s| **s == State::MaybeProcessed).count()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
