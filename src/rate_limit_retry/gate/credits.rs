//! Credits: requests that threads send without the gate's lock, to partitions whose announced quota has much room.
//!
//! The gate grants each thread a number of requests that may be in flight (see
//! [`CreditTerms`](crate::rate_limit_retry::quota::CreditTerms)), and counts them as reserved. While the terms are in
//! force, a thread counts its requests itself, and reads of a response only what remains.
//!
//! | event | consequence |
//! |---|---|
//! | the response is like those before, and enough remains | the thread counts it; no lock that other threads take, no clock |
//! | the response is different, or too little remains | the permit is converted, and the gate records the outcome |
//! | a thread has sent [`SENDS_PER_GRANT`] requests | its next request asks the gate, which collects what was used |
//! | a hold, a pause, a waiter, another window, a limit that is not announced | the gate ends the terms of all threads |
//! | a request is cancelled | its permit is converted, and the quota is charged |
//!
//! # Memory order
//!
//! The terms are in force while the [`generation`](Pool::generation) that a thread has read is current. A thread first
//! counts a request and then reads the generation again; the gate first changes the generation and then reads the
//! counts. Both are sequentially consistent, so at least one of them sees the other's write: either the gate counts the
//! request as in flight, or the thread notices that the terms have ended. The same holds when a request ends, so that
//! the gate is notified of each request that it has counted.
//!
//! # Locks
//!
//! The gate's state owns the lists of threads. A thread's history of fields has a lock of its own, which is only tried,
//! and never held together with another one.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use http::HeaderMap;

use super::{Gate, Inner, Permit, keys::Keys};
use crate::{
    rate_limit_retry::{
        headers::{FieldHistory, RateLimitInfo},
        quota::{CreditTerms, Usage},
    },
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
        sequential_fence,
    },
};

/// The terms of a partition's credits, which all threads read and the gate writes.
///
/// Aligned, so that no other write slows down the readers.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Pool {
    /// Odd while the terms are in force. Changes whenever they begin or end.
    generation: AtomicU32,
    /// Number of requests that each thread may have in flight.
    per_thread: AtomicU32,
    /// Number of requests that must remain.
    floor: AtomicU64,
}

/// The credits of one thread for one partition.
///
/// Written by requests that this thread has started, and read by the gate.
#[repr(align(128))]
pub(crate) struct ThreadCredits {
    /// The terms.
    pool: Arc<Pool>,
    /// The gate. A gate that is gone needs no reports.
    gate: Weak<Inner>,
    /// The partition.
    keys: Keys,
    /// Number of requests in flight on credit.
    in_flight: AtomicU32,
    /// Number of requests until the gate must be asked again.
    left: AtomicU32,
    /// Number of requests sent on credit so far.
    sent: AtomicU64,
    /// Number of responses to them that the gate has not recorded.
    accepted: AtomicU64,
    /// The fewest units announced under the terms of a generation, see [`Lowest`].
    lowest: AtomicU64,
    /// What the fields of the last responses have in common.
    fields: Mutex<FieldHistory>,
}

/// A request on credit. [`CreditPermit::finish`] or [`CreditPermit::release`] ends it.
pub(super) struct CreditPermit {
    /// The thread that has counted it.
    pub(super) credits: Arc<ThreadCredits>,
    /// The generation of the terms under which it was sent.
    generation: u32,
}

/// The credits of a partition's threads, as the gate knows them.
pub(super) struct Grants {
    /// The terms.
    pool: Arc<Pool>,
    /// The threads that have credits, at most one entry for each shard of each service stack.
    threads: Vec<Arc<ThreadCredits>>,
    /// The terms that are in force.
    terms: Option<CreditTerms>,
    /// The last terms. What was announced under them is about the present windows.
    last: Option<CreditTerms>,
    /// The generation of the last terms.
    generation: u32,
    /// What `threads` had sent, and what was accepted, at the last collection.
    collected: Usage,
}

/// What is in flight on credit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outstanding {
    /// Number of requests in flight.
    pub(super) in_flight: u32,
    /// Number of further requests that threads may send.
    pub(super) unused: u32,
}

impl Pool {
    /// Returns the current generation, if its terms are in force.
    fn open_generation(&self) -> Option<u32> {
        let generation = self.generation.load(Ordering::SeqCst);
        (generation % 2 == 1).then_some(generation)
    }
}

impl ThreadCredits {
    /// Counts one more request, if the terms allow it.
    ///
    /// Must be called by one thread at a time, which holds the lock of the shard. If the terms end meanwhile, the caller
    /// asks the gate, which then learns that this request is not in flight.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Permit> {
        let generation = self.pool.open_generation()?;
        let left = self.left.load(Ordering::Relaxed).checked_sub(1)?;
        let before = self.in_flight.fetch_add(1, Ordering::SeqCst);
        sequential_fence();
        if before >= self.pool.per_thread.load(Ordering::SeqCst)
            || self.pool.generation.load(Ordering::SeqCst) != generation
        {
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        // One writer at a time, so that an addition needs no atomic instruction.
        self.left.store(left, Ordering::Relaxed);
        let sent = self.sent.load(Ordering::Relaxed);
        self.sent.store(sent + 1, Ordering::Relaxed);
        Some(Permit::on_credit(CreditPermit {
            credits: Arc::clone(self),
            generation,
        }))
    }

    /// Returns whether the terms are in force.
    pub(crate) fn are_open(&self) -> bool {
        self.pool.open_generation().is_some()
    }

    /// Allows the thread another [`SENDS_PER_GRANT`] requests, because the gate has admitted one.
    pub(crate) fn renew(&self) {
        self.left.store(SENDS_PER_GRANT, Ordering::Relaxed);
    }

    /// Learns from the fields of a response that the gate has recorded.
    pub(crate) fn learn(&self, headers: &HeaderMap, info: &RateLimitInfo) {
        if let Ok(mut fields) = self.fields.try_lock() {
            fields.learn(headers, info);
        }
    }

    /// Ends the count of a request. If the terms have ended since it was sent, the gate may have counted it, and
    /// waiters may wait for its end.
    fn end(&self, generation: u32) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        sequential_fence();
        if self.pool.generation.load(Ordering::SeqCst) != generation
            && let Some(inner) = self.gate.upgrade()
        {
            Gate(inner).on_credit_ended(&self.keys);
        }
    }
}

impl CreditPermit {
    /// Ends the request if its response is like those before and enough remains: then nothing else needs to be
    /// recorded. Otherwise the request stays in flight.
    pub(super) fn finish(&self, headers: &HeaderMap) -> bool {
        let credits = &self.credits;
        {
            // Contended only if a task has moved to another thread.
            let Ok(mut fields) = credits.fields.try_lock() else {
                return false;
            };
            let floor = credits.pool.floor.load(Ordering::Relaxed);
            let Some(lowest) = fields.read(headers, floor / 2) else {
                return false;
            };
            if lowest < floor || credits.pool.generation.load(Ordering::Relaxed) != self.generation
            {
                return false;
            }
            // The lock makes this the only writer.
            let accepted = credits.accepted.load(Ordering::Relaxed);
            credits.accepted.store(accepted + 1, Ordering::Relaxed);
            let new = Lowest::of(self.generation, lowest);
            let known = credits.lowest.load(Ordering::Relaxed);
            let lower = Lowest::lower(known, new);
            let (relaxed, changed) = (Ordering::Relaxed, Ordering::Relaxed);
            if credits
                .lowest
                .compare_exchange(known, lower, relaxed, changed)
                .is_err()
            {
                // The gate has just collected what was known.
                credits.lowest.store(new, Ordering::Relaxed);
            }
        }
        credits.end(self.generation);
        true
    }

    /// Ends the request without recording anything. The caller notifies the gate.
    pub(super) fn release(&self) {
        self.credits.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Returns the partition.
    pub(super) fn keys(&self) -> &Keys {
        &self.credits.keys
    }

    /// Returns the gate, if it still exists.
    pub(super) fn gate(&self) -> Option<Gate> {
        self.credits.gate.upgrade().map(Gate)
    }
}

impl Grants {
    /// Creates the credits of a partition without threads. No terms are in force.
    pub(super) fn new() -> Self {
        Self {
            pool: Arc::default(),
            threads: Vec::new(),
            terms: None,
            last: None,
            generation: 0,
            collected: Usage::default(),
        }
    }

    /// Returns the number of threads that have credits.
    pub(super) fn threads(&self) -> u32 {
        let in_use = self.threads.iter().filter(|thread| is_in_use(thread));
        u32::try_from(in_use.count()).unwrap_or(u32::MAX)
    }

    /// Returns the epoch in which the last terms began.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.last.map(|terms| terms.epoch)
    }

    /// Adds a thread. It takes the place of one that has dropped its credits, and continues with its template.
    pub(super) fn add_thread(&mut self, gate: &Gate, keys: &Keys) -> Arc<ThreadCredits> {
        if let Some(unused) = self.threads.iter().find(|thread| !is_in_use(thread)) {
            return Arc::clone(unused);
        }
        let credits = Arc::new(ThreadCredits {
            pool: Arc::clone(&self.pool),
            gate: Arc::downgrade(&gate.0),
            keys: Arc::clone(keys),
            in_flight: AtomicU32::new(0),
            left: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            lowest: AtomicU64::new(0),
            fields: Mutex::default(),
        });
        self.threads.push(Arc::clone(&credits));
        credits
    }

    /// Sets the terms, or ends them.
    ///
    /// Terms of other windows begin anew: what was announced under the former ones does not count.
    pub(super) fn set_terms(&mut self, terms: Option<CreditTerms>) {
        let Some(terms) = terms else {
            self.end_terms();
            return;
        };
        if self
            .terms
            .is_some_and(|current| !current.is_about_same_windows(&terms))
        {
            self.end_terms();
        }
        self.pool
            .per_thread
            .store(terms.per_thread, Ordering::SeqCst);
        self.pool.floor.store(terms.floor, Ordering::Relaxed);
        self.last = Some(terms);
        if self.terms.replace(terms).is_none() {
            // Odd again: in force.
            let former = self.pool.generation.fetch_add(1, Ordering::SeqCst);
            self.generation = former.wrapping_add(1);
        }
    }

    /// Ends the terms, if any are in force.
    pub(super) fn end_terms(&mut self) {
        if self.terms.take().is_some() {
            self.pool.generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Ends the terms. What was announced under them does not count any more.
    pub(super) fn forget(&mut self) {
        self.end_terms();
        self.last = None;
    }

    /// Returns what threads have done since the last call, and what is in flight.
    pub(super) fn collect(&mut self) -> (Usage, Outstanding) {
        sequential_fence();
        let per_thread = self.terms.map_or(0, |terms| terms.per_thread);
        let mut total = Usage::default();
        let mut outstanding = Outstanding::default();
        for thread in &self.threads {
            let in_flight = thread.in_flight.load(Ordering::SeqCst);
            outstanding.in_flight = outstanding.in_flight.saturating_add(in_flight);
            if is_in_use(thread) {
                let unused = per_thread.saturating_sub(in_flight);
                outstanding.unused = outstanding.unused.saturating_add(unused);
            }
            total.sent += thread.sent.load(Ordering::Relaxed);
            total.accepted += thread.accepted.load(Ordering::Relaxed);
            // Each announcement is collected once: what is recorded later may be about more.
            let lowest = thread.lowest.swap(0, Ordering::Relaxed);
            let lowest = self
                .last
                .and_then(|_| Lowest::under(self.generation, lowest));
            total.lowest = match (total.lowest, lowest) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        let used = Usage {
            sent: total.sent.saturating_sub(self.collected.sent),
            accepted: total.accepted.saturating_sub(self.collected.accepted),
            lowest: total.lowest,
        };
        self.collected = total;
        (used, outstanding)
    }
}

/// Returns whether a thread, or one of its requests, still has these credits.
fn is_in_use(credits: &Arc<ThreadCredits>) -> bool {
    Arc::strong_count(credits) > 1
}

/// The fewest units that responses have announced, with the generation of the terms under which the requests were sent:
/// 48 and 16 bits of one number, so that both are read together.
struct Lowest;

impl Lowest {
    /// Combines the two.
    fn of(generation: u32, remaining: u64) -> u64 {
        u64::from(generation) << REMAINING_BITS | remaining.min(MAX_REMAINING)
    }

    /// Returns the lower one, or the newer one if they are of different generations.
    fn lower(known: u64, new: u64) -> u64 {
        if known >> REMAINING_BITS == new >> REMAINING_BITS {
            known.min(new)
        } else {
            new
        }
    }

    /// Returns what remains, if that was announced under the terms of this generation.
    fn under(generation: u32, lowest: u64) -> Option<u64> {
        let of = Self::of(generation, 0);
        (lowest >> REMAINING_BITS == of >> REMAINING_BITS).then_some(lowest & MAX_REMAINING)
    }
}

impl fmt::Debug for ThreadCredits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadCredits")
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

/// Number of requests that a thread sends on credit before it asks the gate.
const SENDS_PER_GRANT: u32 = 512;
/// Number of bits of what remains in a [`Lowest`].
const REMAINING_BITS: u32 = 48;
/// Maximum number that remains in a [`Lowest`].
const MAX_REMAINING: u64 = (1 << REMAINING_BITS) - 1;
