//! The terms of credits, and what threads count themselves.
//!
//! The gate owns [`Grants`], and each thread a [`Counts`] for each partition. See `credits` for the whole.
//!
//! # Memory order
//!
//! The terms are in force while the `generation` that a thread has read is current. A thread first counts a request and
//! then reads the generation again. The gate first changes the generation and then reads the counts. Both are
//! sequentially consistent, so at least one of them reads the other's write: either the gate counts the request as in
//! flight, or the thread reads that the terms have ended. The same holds when a request ends, so that the gate is
//! notified of each request that it has counted.
//!
//! The numbers that the gate adds up are written without atomic additions: each has one writer at a time.

use std::sync::Arc;

use crate::{
    rate_limit_retry::quota::{CreditTerms, Usage},
    sync::{
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
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
    /// Number of quotas that each response must announce.
    windows: AtomicUsize,
}

/// What one thread has sent on credit to one partition.
///
/// Written by requests that this thread has started, and read by the gate. Aligned, so that threads do not share cache
/// lines.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Counts {
    /// The terms.
    pool: Arc<Pool>,
    /// Number of requests in flight on credit.
    in_flight: AtomicU32,
    /// Number of further requests before one has to go through the gate.
    left: AtomicU32,
    /// Number of requests sent on credit so far.
    sent: AtomicU64,
    /// Number of responses to them that the gate has not recorded.
    accepted: AtomicU64,
    /// The fewest units announced under the terms of a generation, see [`Lowest`].
    lowest: AtomicU64,
}

/// The terms of a partition's credits, and what its threads count.
pub(super) struct Grants {
    /// The terms.
    pool: Arc<Pool>,
    /// The threads that have credits, at most one entry for each shard of each service stack.
    threads: Vec<Arc<Counts>>,
    /// The terms that are in force.
    terms: Option<CreditTerms>,
    /// The last terms. What was announced under them concerns the present windows.
    last: Option<CreditTerms>,
    /// The generation of the last terms.
    generation: u32,
    /// The first generation of the epoch of the last terms.
    first_of_epoch: u32,
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

impl Counts {
    /// Counts one more request, if the terms allow it. Returns the generation of the terms.
    ///
    /// Must be called by one thread at a time. If the terms end meanwhile, the caller goes through the gate, which then
    /// learns that this request is not in flight.
    pub(super) fn take(&self) -> Option<u32> {
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
        Some(generation)
    }

    /// Allows the thread another [`SENDS_PER_GRANT`] requests, because the gate has admitted one.
    pub(super) fn renew(&self) {
        self.left.store(SENDS_PER_GRANT, Ordering::Relaxed);
    }

    /// Returns whether the terms are in force.
    pub(super) fn are_open(&self) -> bool {
        self.pool.open_generation().is_some()
    }

    /// Returns the number of requests that must remain.
    pub(super) fn floor(&self) -> u64 {
        self.pool.floor.load(Ordering::Relaxed)
    }

    /// Returns the number of quotas that each response must announce.
    pub(super) fn windows(&self) -> usize {
        self.pool.windows.load(Ordering::Relaxed)
    }

    /// Counts an accepted request of this generation, after which `remaining` units remain. Returns `false`, and counts
    /// nothing, if the terms have changed.
    ///
    /// Must be called by one thread at a time.
    pub(super) fn accept(&self, generation: u32, remaining: u64) -> bool {
        if self.pool.generation.load(Ordering::Relaxed) != generation {
            return false;
        }
        let accepted = self.accepted.load(Ordering::Relaxed);
        self.accepted.store(accepted + 1, Ordering::Relaxed);
        let new = Lowest::of(generation, remaining);
        let known = self.lowest.load(Ordering::Relaxed);
        let lower = Lowest::lower(known, new);
        let relaxed = Ordering::Relaxed;
        if self
            .lowest
            .compare_exchange(known, lower, relaxed, relaxed)
            .is_err()
        {
            // The gate has just collected what was known.
            self.lowest.store(new, Ordering::Relaxed);
        }
        true
    }

    /// Ends the count of a request. Returns whether the terms have ended since it was sent: then the gate may have
    /// counted it, and waiters may wait for its end.
    pub(super) fn end(&self, generation: u32) -> bool {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        sequential_fence();
        self.pool.generation.load(Ordering::SeqCst) != generation
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
            first_of_epoch: 0,
            collected: Usage::default(),
        }
    }

    /// Returns the number of threads that have credits.
    pub(super) fn threads(&self) -> u32 {
        let in_use = self.threads.iter().filter(|thread| is_in_use(thread));
        u32::try_from(in_use.count()).unwrap_or(u32::MAX)
    }

    /// Returns whether terms are in force.
    pub(super) fn are_open(&self) -> bool {
        self.terms.is_some()
    }

    /// Returns the epoch of the last terms, if terms of this generation began in it.
    pub(super) fn epoch(&self, generation: u32) -> Option<u64> {
        let distance = generation.wrapping_sub(self.first_of_epoch);
        let terms = self.last.filter(|_| distance < u32::MAX / 2);
        terms.map(|terms| terms.epoch)
    }

    /// Adds a thread. It continues with the counts of one that has dropped its credits, if there is one.
    pub(super) fn add_thread(&mut self) -> Arc<Counts> {
        if let Some(unused) = self.threads.iter().find(|thread| !is_in_use(thread)) {
            return Arc::clone(unused);
        }
        let counts = Arc::new(Counts {
            pool: Arc::clone(&self.pool),
            in_flight: AtomicU32::new(0),
            left: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            lowest: AtomicU64::new(0),
        });
        self.threads.push(Arc::clone(&counts));
        counts
    }

    /// Sets the terms, or ends them.
    ///
    /// Under the terms of other windows, what was announced under the former ones does not count.
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
        self.pool.windows.store(terms.windows, Ordering::Relaxed);
        let former = self.last.replace(terms);
        if self.terms.replace(terms).is_none() {
            // Odd again: in force.
            let generation = self.pool.generation.fetch_add(1, Ordering::SeqCst);
            self.generation = generation.wrapping_add(1);
            if former.map(|former| former.epoch) != Some(terms.epoch) {
                self.first_of_epoch = self.generation;
            }
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

/// Returns whether a thread, or one of its requests, still uses these counts.
fn is_in_use(counts: &Arc<Counts>) -> bool {
    Arc::strong_count(counts) > 1
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

/// Number of requests that a thread sends on credit before one goes through the gate.
const SENDS_PER_GRANT: u32 = 512;
/// Number of bits of what remains in a [`Lowest`].
const REMAINING_BITS: u32 = 48;
/// Maximum number that remains in a [`Lowest`].
const MAX_REMAINING: u64 = (1 << REMAINING_BITS) - 1;
