//! The partitions of a gate, and the removal of idle ones.
//!
//! Partitions are created on demand and are not removed when they become idle, because what is known about a limit is
//! worth keeping. Only when there are many of them, idle ones are removed, a few with each request: no request pays for
//! a sweep of the whole table, and no task is needed.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::Waker,
};

use tokio::time::Instant;

use super::{
    grants::{Counts, Grants},
    openness::FastPathFlag,
    queue::Queue,
};
use crate::{
    Origin,
    rate_limit_retry::{
        Cost, PartitionKey,
        quota::{CreditTerms, Load, Outcome, Quota, QuotaConfig, Scope, Sent, Window},
    },
};

/// Partitions by key.
///
/// There is no fixed maximum: a partition that is held, in use, paused or waited for is never removed. From
/// [`SWEEP_THRESHOLD`] on, each request examines at most [`SWEEP_BATCH`] of them and removes the idle ones, so that the
/// cost of a sweep is spread over many requests.
///
/// Most requests insert at most one partition and examine up to [`SWEEP_BATCH`], so that idle partitions are removed
/// faster than new ones are created.
#[derive(Default)]
pub(super) struct Partitions {
    /// Boxed, so that a resize of the table moves pointers only.
    by_key: HashMap<PartitionKey, Box<Partition>>,
    /// All keys, in the order in which they are examined. Holds each key of `by_key` once.
    sweep_order: VecDeque<PartitionKey>,
    /// Number of partitions examined since the last idle one.
    busy_streak: usize,
}

/// One partition: its quota, its queue and its flag of the fast path.
///
/// The flag is open only if the quota allows it and the queue is empty. Every change that could violate this calls
/// [`disable_fast_path`](Self::disable_fast_path) at once; it is opened again only by
/// [`update_fast_path`](Self::update_fast_path), after an outcome was recorded.
pub(super) struct Partition {
    /// The destination of its requests; `None` if the partition is the origin's own or no request has named one yet.
    pub(super) origin: Option<Box<Origin>>,
    /// What is known about the limits, and when the next request may be sent.
    pub(super) quota: Quota,
    /// The flag that the fast path reads without the lock. Created when the partition is open for the first time.
    fast_path: Option<Arc<FastPathFlag>>,
    /// The credits of threads. Created with those of the first thread.
    grants: Option<Box<Grants>>,
    /// Whether named quotas have partitions of their own. Then a request has several keys, which credits do not have.
    is_divided: bool,
    /// The waiting requests that this partition blocks, or that precede others here.
    pub(super) queue: Queue,
    /// Number of waiters that have this partition among their keys, queued here or not.
    pub(super) waiter_count: u32,
    /// Whether it only holds a route of another partition. The server counts no requests by it, so no response can be
    /// about it instead of the other keys of a request.
    pub(super) is_route: bool,
    /// End of the latest origin-wide hold applied here. Keeps a hold from being applied again after the owner has
    /// forgotten the partition.
    origin_held_until: Option<Instant>,
    /// The waker of the task that reports to the store, and the time at which that task runs again without being
    /// woken.
    pub(super) agent: Option<(Waker, Instant)>,
}

impl Partition {
    /// Creates a closed partition without waiters.
    pub(super) fn new(origin: Option<&Origin>, quota: Quota) -> Box<Self> {
        Box::new(Self {
            origin: origin.cloned().map(Box::new),
            quota,
            fast_path: None,
            grants: None,
            is_divided: false,
            queue: Queue::default(),
            waiter_count: 0,
            is_route: false,
            origin_held_until: None,
            agent: None,
        })
    }

    /// Returns the flag of the fast path, if the partition is open.
    pub(super) fn fast_path_flag(&self) -> Option<&Arc<FastPathFlag>> {
        self.fast_path.as_ref().filter(|flag| flag.get())
    }

    /// Applies an origin-wide hold: holds the partition until the given time and closes the fast path.
    pub(super) fn hold_for_origin(&mut self, until: Instant) {
        self.origin_held_until = self.origin_held_until.max(Some(until));
        self.quota.hold(until);
        self.disable_fast_path();
    }

    /// Applies the hold of the partition's origin, if there is one that has not ended and was not applied here.
    pub(super) fn apply_origin_holds(&mut self, holds: &[(Origin, Instant)], now: Instant) {
        let origin = self.origin.as_deref();
        let hold = holds.iter().find(|(held, _)| Some(held) == origin);
        if let Some((_, until)) = hold
            && *until > now
            && self.origin_held_until.is_none_or(|known| known < *until)
        {
            self.hold_for_origin(*until);
        }
    }

    /// Closes the fast path: requests go through the gate from now on. Credits end.
    pub(super) fn disable_fast_path(&mut self) {
        if let Some(flag) = &self.fast_path {
            flag.set(false);
        }
        if let Some(grants) = &mut self.grants {
            grants.end_terms();
        }
        self.collect_credits();
    }

    /// Opens the fast path if the partition has no known limit, hold or waiters, and closes it otherwise. Sets the
    /// terms of credits.
    pub(super) fn update_fast_path(&mut self, config: &QuotaConfig) {
        if self.quota.allows_fast_path() && self.queue.is_empty() {
            self.fast_path.get_or_insert_default().set(true);
        } else if let Some(flag) = &self.fast_path {
            flag.set(false);
        }
        self.update_credits(config);
    }

    /// Resets what is known about the quota.
    pub(super) fn forget(&mut self, config: &QuotaConfig) {
        self.disable_fast_path();
        if let Some(grants) = &mut self.grants {
            grants.forget();
        }
        self.is_divided = false;
        self.quota.forget(config);
    }

    /// Returns whether named quotas have partitions of their own.
    pub(super) fn is_divided(&self) -> bool {
        self.is_divided
    }

    /// Takes the named quotas out, for partitions of their own. Credits end.
    pub(super) fn divide(&mut self, named: &[PartitionKey]) -> Vec<Window> {
        self.is_divided = true;
        self.disable_fast_path();
        let names = named.iter().filter_map(PartitionKey::resource);
        self.quota.take_named_windows(names)
    }

    /// Sets the terms of credits, after anything has changed that they depend on.
    pub(super) fn update_credits(&mut self, config: &QuotaConfig) {
        let Some(grants) = &self.grants else {
            return;
        };
        let terms = self.credit_terms(grants.threads(), config);
        if let Some(grants) = &mut self.grants {
            grants.set_terms(terms);
        }
        self.collect_credits();
    }

    /// Returns whether a thread may get credits.
    pub(super) fn offers_credits(&self, config: &QuotaConfig) -> bool {
        let (threads, open) = self
            .grants
            .as_ref()
            .map_or((0, false), |grants| (grants.threads(), grants.are_open()));
        // The terms of the present threads are in force, or there is room for one more.
        open || self
            .credit_terms(threads.saturating_add(1), config)
            .is_some()
    }

    /// Returns the terms of credits for this number of threads.
    fn credit_terms(&self, threads: u32, config: &QuotaConfig) -> Option<CreditTerms> {
        let free = self.queue.is_empty() && !self.is_divided;
        free.then(|| self.quota.credit_terms(threads, config))?
    }

    /// Gives credits to another thread.
    pub(super) fn add_thread(&mut self, config: &QuotaConfig) -> Arc<Counts> {
        let grants = self.grants.get_or_insert_with(|| Box::new(Grants::new()));
        let counts = grants.add_thread();
        self.update_credits(config);
        counts
    }

    /// Records what threads have done on credit. Called before the quota decides or records anything.
    pub(super) fn collect_credits(&mut self) {
        if let Some(grants) = &mut self.grants {
            let (used, outstanding) = grants.collect();
            self.quota
                .on_credits_used(used, outstanding.in_flight, outstanding.unused);
        }
    }

    /// Counts a request that was sent on credit and has not ended. Returns its number.
    ///
    /// `generation`: that of the terms under which it was sent.
    pub(super) fn enter_from_credit(&mut self, generation: u32) -> u64 {
        self.collect_credits();
        let grants = self.grants.as_ref();
        let epoch = grants.and_then(|grants| grants.epoch(generation));
        self.quota.enter_from_credit(epoch)
    }

    /// Releases a request that was counted and is not sent, and its reservation.
    pub(super) fn release(&mut self, number: u64, load: &Load, config: &QuotaConfig) {
        let (sent, unsent) = (Sent { number, load }, Outcome::NotSent);
        self.quota
            .record(sent, unsent, Scope::Partition, config, 0.0, None);
        let cost = &load.cost;
        if *cost != Cost::ONE {
            self.quota.settle_cost(load, Some(&cost.refunded()));
        }
    }

    /// Returns whether the partition can be removed. With `whatever_is_known`, learned limits do not keep it.
    fn is_idle(&self, whatever_is_known: bool, now: Instant) -> bool {
        let idle = if whatever_is_known {
            self.quota.is_unused(now)
        } else {
            self.quota.is_idle(now)
        };
        idle && self.waiter_count == 0 && self.queue.is_empty()
    }
}

impl Partitions {
    /// Returns the partition of this key.
    pub(super) fn get(&self, key: &PartitionKey) -> Option<&Partition> {
        self.by_key.get(key).map(|partition| &**partition)
    }

    /// Returns the partition of this key for changes.
    pub(super) fn get_mut(&mut self, key: &PartitionKey) -> Option<&mut Partition> {
        self.by_key.get_mut(key).map(|partition| &mut **partition)
    }

    /// Iterates over all partitions with their keys, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PartitionKey, &Partition)> {
        let all = self.by_key.iter();
        all.map(|(key, partition)| (key, &**partition))
    }

    /// Iterates over all partitions for changes, in no particular order.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.by_key.values_mut().map(|partition| &mut **partition)
    }

    /// Inserts a partition under a key that is not present.
    pub(super) fn insert(&mut self, key: PartitionKey, partition: Box<Partition>) {
        self.sweep_order.push_back(key.clone());
        self.by_key.insert(key, partition);
    }

    /// Removes idle partitions among the next few, if there are at least [`SWEEP_THRESHOLD`].
    ///
    /// Learned limits of a partition that is not in use are dropped only after a full round in which none was idle.
    /// The caller drops `removed` after the lock is released.
    pub(super) fn sweep(&mut self, now: Instant, removed: &mut Vec<Partition>) {
        if self.by_key.len() < SWEEP_THRESHOLD {
            return;
        }
        for _ in 0..SWEEP_BATCH {
            let Some(key) = self.sweep_order.pop_front() else {
                break;
            };
            // More in a row than there are: a full round without an idle one.
            let all_are_busy = self.busy_streak > self.sweep_order.len();
            let idle = self.get_mut(&key).is_none_or(|partition| {
                partition.collect_credits();
                partition.is_idle(all_are_busy, now) && {
                    // No thread sends on credit from here on, so that what is in flight is known.
                    partition.disable_fast_path();
                    partition.is_idle(all_are_busy, now)
                }
            });
            if !idle {
                self.busy_streak = self.busy_streak.saturating_add(1);
                self.sweep_order.push_back(key);
                continue;
            }
            if !all_are_busy {
                self.busy_streak = 0;
            }
            if let Some(mut partition) = self.by_key.remove(&key) {
                partition.disable_fast_path();
                removed.push(*partition);
            }
            if self.by_key.len() < SWEEP_THRESHOLD {
                break;
            }
        }
        // The cost of the move is at most a fraction of the removals since the last one.
        if self.by_key.len() < self.by_key.capacity() / 8 {
            self.by_key.shrink_to(self.by_key.len() * 2);
            self.sweep_order.shrink_to(self.by_key.len() * 2);
        }
    }
}

/// Number of partitions from which on idle ones are removed. Bounds the memory of programs with a partition per user or
/// tenant.
const SWEEP_THRESHOLD: usize = 10_000;
/// Maximum number of partitions that one request examines. Greater than the number that a request usually creates, so
/// that the table shrinks.
const SWEEP_BATCH: usize = 8;
