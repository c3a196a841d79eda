//! Credits: requests that are sent without checking the quota, while so much remains that they cannot exceed it.
//!
//! While much of the announced quotas remains, each thread may have a number of requests in flight that it counts
//! itself. The quota reserves that number for each thread, used or not. A thread uses its credits only as long as the
//! last response that it has received announces at least the `floor`. The floor is twice the sum of what all threads
//! have reserved and what is in flight. So what may still be used when a thread reaches the floor is at most half of
//! what remains.
//!
//! What the requests have used is recorded as a sum ([`Usage`]), not for each request.

use tokio::time::Instant;

use super::{Pacing, Quota, QuotaConfig};

/// The terms on which threads may send requests without checking the quota.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CreditTerms {
    /// Number of requests that each thread may have in flight.
    pub(crate) per_thread: u32,
    /// Number of requests that must remain, by each announced quota, after the last response that the thread has
    /// received.
    pub(crate) floor: u64,
    /// When the latest of the announced windows began.
    since: Instant,
    /// The number of announced windows.
    pub(crate) windows: usize,
    /// The epoch of requests that are sent on these terms.
    pub(crate) epoch: u64,
}

impl CreditTerms {
    /// Returns whether other terms concern the same windows.
    pub(crate) fn is_about_same_windows(&self, other: &Self) -> bool {
        (self.since, self.windows) == (other.since, other.windows)
    }
}

/// What was done on credit since the last call of [`Quota::on_credits_used`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Number of requests that were sent.
    pub(crate) sent: u64,
    /// Number of those that were accepted.
    pub(crate) accepted: u64,
    /// The fewest units that a response to them has announced, in the present window.
    pub(crate) lowest: Option<u64>,
}

impl Quota {
    /// Returns the terms of credits for this number of threads; `None` if each request has to go through the gate.
    ///
    /// It has to whenever anything except announced quotas of requests may delay it: a hold, a local limit, an
    /// estimate, a limit on concurrency, a store, even pacing, replicas, or a quota of which too little remains.
    pub(crate) fn credit_terms(&self, threads: u32, config: &QuotaConfig) -> Option<CreditTerms> {
        let held = self.pause.is_some() || self.hold.is_some() || self.partial_hold.is_some();
        let limited = self.local_limit.is_some()
            || self.fleet_share.is_some()
            || self.unannounced_limit
            || self.estimator.is_known()
            || self.concurrency.is_known()
            || !self.slow_start.is_finished();
        if held || limited || !self.is_announced || config.pacing != Pacing::Burst {
            return None;
        }
        let in_flight = self.all_in_flight();
        let mut room: Option<(f64, f64)> = None;
        let (mut since, mut windows) = (None, 0);
        for window in self.windows.iter() {
            let Some(current) = &window.current else {
                continue;
            };
            let (available, cost) = window.room_for_credits(in_flight)?;
            since = since.max(Some(current.began()));
            windows += 1;
            let (least, highest) = room.unwrap_or((available, cost));
            room = Some((least.min(available), highest.max(cost)));
        }
        let (available, cost) = room?;
        let threads = f64::from(threads.max(1));
        let requests = available / cost - f64::from(in_flight);
        let per_thread = (requests / (RESERVE_DIVISOR * threads)).min(MAX_PER_THREAD);
        if per_thread < MIN_PER_THREAD {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the maximum"
        )]
        let per_thread = per_thread as u32;
        let reserved = f64::from(per_thread) * threads + f64::from(in_flight);
        Some(CreditTerms {
            per_thread,
            floor: ceil(FLOOR_FACTOR * reserved * cost),
            since: since?,
            windows,
            epoch: self.epoch,
        })
    }

    /// Records what was done on credit, and what is in flight and reserved now.
    pub(crate) fn on_credits_used(&mut self, used: Usage, in_flight: u32, unused: u32) {
        (self.on_credit, self.unused_credits) = (in_flight, unused);
        if used.sent == 0 && used.accepted == 0 && used.lowest.is_none() {
            return;
        }
        // Numbers show which of two requests was sent first, and how many were sent in between.
        self.next_number += used.sent;
        self.estimator.accepted += used.accepted;
        for window in self.windows.iter_mut() {
            window.on_credits_used(used.accepted);
        }
        if let Some(lowest) = used.lowest
            && let Some(current) = self.windows.nearest_mut().and_then(|w| w.current.as_mut())
        {
            current.lower(lowest, self.next_number, self.on_credit);
        }
    }

    /// Returns the number of the last request.
    pub(crate) fn latest_number(&self) -> u64 {
        self.next_number.saturating_sub(1)
    }

    /// Counts a request that was sent on credit as in flight, because its outcome must be recorded. Returns its number.
    ///
    /// `epoch`: the epoch of its terms, as far as it is known. When exactly it was sent is not known. So it counts as
    /// the first request of its epoch: its response can reduce what remains, and not raise it.
    pub(crate) fn enter_from_credit(&mut self, epoch: Option<u64>) -> u64 {
        self.in_flight += 1;
        if epoch == Some(self.epoch) {
            self.epoch
        } else {
            self.epoch.saturating_sub(1)
        }
    }
}

/// Returns the least integer that is not smaller.
fn ceil(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of requests; the cast saturates"
    )]
    let ceil = value.ceil() as u64;
    ceil
}

/// Divisor of what remains for the reservations of all threads together: an eighth is reserved.
const RESERVE_DIVISOR: f64 = 8.0;
/// Minimum that must remain, as a multiple of what is reserved.
const FLOOR_FACTOR: f64 = 2.0;
/// Minimum number of requests for each thread. With fewer, the gate costs as little.
const MIN_PER_THREAD: f64 = 2.0;
/// Maximum number of requests in flight for each thread.
const MAX_PER_THREAD: f64 = 1024.0;
