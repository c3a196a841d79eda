//! Credits: requests that threads send without the gate's lock, while much of a partition's announced quota remains. As
//! in credit-based flow control, a thread sends as many requests as it has credits for, without a check of the quota.
//!
//! The gate grants each thread a number of requests that may be in flight (see
//! [`CreditTerms`](crate::rate_limit_retry::quota::CreditTerms)), and counts them as reserved. While the terms are in
//! force, a thread counts its requests itself, and reads of a response only what remains.
//!
//! | event | consequence |
//! |---|---|
//! | the response is like those before, and enough remains | the thread counts it, without a lock that other threads take, and without a clock |
//! | the response is different, or too little remains | the permit is converted, and the gate records the outcome |
//! | a thread has sent 512 requests | its next request goes through the gate, which collects what was used |
//! | a hold, a pause, a waiter, another window, a limit that is not announced | the gate ends the terms of all threads |
//! | a request is cancelled | its permit is converted, and the quota is charged |
//!
//! # Locks
//!
//! The gate's state owns the terms and the lists of threads (`grants`). A thread's history of fields has a lock of its
//! own, which is only tried, and never held together with another one.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use http::HeaderMap;

use super::{
    Gate, Inner,
    grants::Counts,
    keys::{Keys, Numbers},
    state::wake_all,
};
use crate::{
    rate_limit_retry::headers::{FieldHistory, HeaderProfile, RateLimitInfo},
    sync::{Mutex, lock},
};

/// The credits of one thread for one partition.
pub(crate) struct ThreadCredits {
    /// What the thread counts.
    counts: Arc<Counts>,
    /// The gate. Once it is dropped, nothing is reported.
    gate: Weak<Inner>,
    /// The partition.
    keys: Keys,
    /// What the fields of the last responses have in common.
    fields: Mutex<FieldHistory>,
}

/// A request on credit. [`finish`](Self::finish) or [`release`](Self::release) ends it.
pub(crate) struct CreditPermit {
    /// The thread that has counted it.
    pub(super) credits: Arc<ThreadCredits>,
    /// The generation of the terms under which it was sent.
    generation: u32,
}

/// A request on credit that its partition counts from now on.
pub(super) struct Converted {
    /// The gate.
    pub(super) gate: Gate,
    /// The number that the partition gave it.
    pub(super) numbers: Numbers,
    /// Its sequence number.
    pub(super) sequence: u64,
}

impl ThreadCredits {
    /// Counts one more request, if the terms allow it.
    ///
    /// Must be called by one thread at a time, which holds the lock of the shard.
    pub(crate) fn take(self: &Arc<Self>) -> Option<CreditPermit> {
        let generation = self.counts.take()?;
        Some(CreditPermit {
            credits: Arc::clone(self),
            generation,
        })
    }

    /// Allows the thread more requests, because the gate has admitted one.
    pub(crate) fn renew(&self) {
        self.counts.renew();
    }

    /// Returns whether the terms are in force.
    pub(crate) fn are_open(&self) -> bool {
        self.counts.are_open()
    }

    /// Learns from the fields of a response that the gate has recorded.
    pub(crate) fn learn(
        &self,
        headers: &HeaderMap,
        profile: Option<&dyn HeaderProfile>,
        info: &RateLimitInfo,
    ) {
        if let Ok(mut fields) = self.fields.try_lock() {
            fields.learn(headers, profile, info);
        }
    }
}

impl CreditPermit {
    /// Ends the request if its response is like those before and enough remains: then nothing else needs to be
    /// recorded. Otherwise the request stays in flight.
    pub(super) fn finish(&self, headers: &HeaderMap, profile: Option<&dyn HeaderProfile>) -> bool {
        let credits = &self.credits;
        let finished = {
            // Contended only if a task has moved to another thread. The lock makes this the only writer.
            let Ok(mut fields) = credits.fields.try_lock() else {
                return false;
            };
            let floor = credits.counts.floor();
            let remaining = fields.read(headers, profile, credits.counts.windows(), floor / 2);
            remaining.is_some_and(|remaining| {
                remaining >= floor && credits.counts.accept(self.generation, remaining)
            })
        };
        if finished && credits.counts.end(self.generation) {
            self.notify();
        }
        finished
    }

    /// Ends the request without recording anything. The caller notifies the gate.
    pub(super) fn release(&self) {
        self.credits.counts.end(self.generation);
    }

    /// Converts the permit: the partition counts the request from now on. `None` if the gate or the partition is gone.
    pub(super) fn convert(&self) -> Option<Converted> {
        let Some(inner) = self.credits.gate.upgrade() else {
            self.release();
            return None;
        };
        let gate = Gate(inner);
        let keys = &self.credits.keys;
        let mut state = lock(&gate.0.state);
        // Under the lock, so that the request is in flight for every admission, on credit or counted.
        self.release();
        state.last_sequence += 1;
        let sequence = state.last_sequence;
        let partition = keys.first().and_then(|key| state.partitions.get_mut(key))?;
        let numbers = Numbers::of(keys, |_| partition.enter_from_credit(self.generation));
        drop(state);
        Some(Converted {
            gate,
            numbers,
            sequence,
        })
    }

    /// Returns the partition.
    pub(super) fn keys(&self) -> &Keys {
        &self.credits.keys
    }

    /// Wakes the first waiter, because the request has ended that was in flight when its terms ended. The waiter's poll
    /// dispatches.
    fn notify(&self) {
        let Some(inner) = self.credits.gate.upgrade() else {
            return;
        };
        let keys = &self.credits.keys;
        let wakers = {
            let mut state = lock(&inner.state);
            for key in keys.iter() {
                if let Some(partition) = state.partitions.get_mut(key) {
                    partition.collect_credits();
                }
            }
            state.take_first_wakers(keys)
        };
        wake_all(wakers);
    }
}

impl Gate {
    /// Returns the number of the last request to the first partition. A request on credit was sent before the next one.
    pub(crate) fn latest_number(&self, keys: &Keys) -> u64 {
        let state = lock(&self.0.state);
        let partition = keys.first().and_then(|key| state.partitions.get(key));
        partition.map_or(0, |partition| partition.quota.latest_number())
    }

    /// Grants credits for the partition to the calling thread. `None` if the partition does not exist any more.
    pub(crate) fn add_thread(&self, keys: &Keys) -> Option<Arc<ThreadCredits>> {
        let [key] = &**keys else {
            return None;
        };
        let mut state = lock(&self.0.state);
        let partition = state.partitions.get_mut(key)?;
        let counts = partition.add_thread(&self.0.config);
        Some(Arc::new(ThreadCredits {
            counts,
            gate: Arc::downgrade(&self.0),
            keys: Arc::clone(keys),
            fields: Mutex::default(),
        }))
    }
}

impl fmt::Debug for ThreadCredits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadCredits")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
