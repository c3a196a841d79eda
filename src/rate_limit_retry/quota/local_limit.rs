//! The local limit: a limit that the user sets, in addition to what the server announces.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::admit::SendTime;
use crate::{
    clock::add_capped,
    rate_limit_retry::{
        headers::{Limit, Unit},
        local_limits::LocalLimit,
    },
};

/// A local limit and the requests that count toward it.
///
/// A request counts while it is in flight and for one period after its end. The server counted it at some time in
/// between, so that it never sees more requests in a period than the limit allows.
///
/// Ends are stored in buckets, which expire with their last request. That errs toward fewer requests.
#[derive(Debug)]
pub(super) struct LocalLimiter {
    /// The limit. An announced one may replace its rate.
    limit: LocalLimit,
    /// Requests that have ended within the last period, in buckets, from old to new.
    buckets: VecDeque<Bucket>,
    /// Number of requests in `buckets`.
    count: u64,
    /// The time of the next send if requests were spaced evenly: the theoretical arrival time of GCRA.
    tat: Option<Instant>,
}

/// A bucket of requests that ended at about the same time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Time of the first end.
    first: Instant,
    /// Time of the last end, by which the bucket expires.
    last: Instant,
    /// Number of requests.
    count: u64,
}

impl LocalLimiter {
    /// Creates a local limit toward which nothing counts yet.
    pub(super) fn new(limit: LocalLimit) -> Self {
        Self {
            limit,
            buckets: VecDeque::new(),
            count: 0,
            tat: None,
        }
    }

    /// Returns why one more request must wait; `None` if it need not. `smooth` spaces requests evenly, without a
    /// burst.
    ///
    /// The limits are checked in this order: concurrency, requests per period, even spacing.
    pub(super) fn admit(&mut self, in_flight: u32, smooth: bool, now: Instant) -> Option<SendTime> {
        if self
            .limit
            .max_concurrency
            .is_some_and(|max| in_flight >= max)
        {
            return Some(SendTime::AfterResponse(None));
        }
        let (max, period) = self.limit.rate?;
        self.expire(period, now);
        if self.count + u64::from(in_flight) >= u64::from(max) {
            let at = self
                .buckets
                .front()
                .map(|oldest| add_capped(oldest.last, period));
            return Some(match at {
                Some(at) if in_flight == 0 => SendTime::NotBefore(at),
                at => SendTime::AfterResponse(at),
            });
        }
        // Without a burst setting requests are not spaced. A burst of n may run ahead of even spacing by n - 1
        // intervals.
        let burst = if smooth { Some(1) } else { self.limit.burst };
        let early = (period / max).saturating_mul(burst?.saturating_sub(1));
        let at = self.tat.map(|tat| tat.checked_sub(early).unwrap_or(now));
        at.filter(|at| *at > now).map(SendTime::NotBefore)
    }

    /// Advances the even spacing by one interval for a send.
    pub(super) fn on_sent(&mut self, now: Instant) {
        if let Some((max, period)) = self.limit.rate {
            let tat = self.tat.map_or(now, |tat| tat.max(now));
            self.tat = Some(add_capped(tat, period / max));
        }
    }

    /// Records that a request that was sent has ended.
    pub(super) fn on_completed(&mut self, now: Instant) {
        let Some((_, period)) = self.limit.rate else {
            return;
        };
        self.expire(period, now);
        self.count += 1;
        match self.buckets.back_mut() {
            Some(back)
                if now.saturating_duration_since(back.first) <= period / BUCKETS_PER_PERIOD =>
            {
                back.last = back.last.max(now);
                back.count += 1;
            }
            _ => self.buckets.push_back(Bucket {
                first: now,
                last: now,
                count: 1,
            }),
        }
    }

    /// Replaces the rate by the limit that the server announces, if the setting yields to announcements.
    ///
    /// Limits in other units than requests are ignored. The period stays if the server does not announce one.
    pub(super) fn on_announced(&mut self, announced: &Limit) {
        if self.limit.until_announced
            && announced.unit == Unit::Requests
            && let Some(limit) = announced.limit.and_then(|limit| u32::try_from(limit).ok())
            && let Some((max, period)) = &mut self.limit.rate
        {
            *max = limit.max(1);
            *period = announced.window.unwrap_or(*period);
        }
    }

    /// Returns whether requests that have ended still count.
    pub(super) fn has_recent(&self, now: Instant) -> bool {
        let (last, rate) = (self.buckets.back(), self.limit.rate);
        last.zip(rate)
            .is_some_and(|(last, (_, period))| add_capped(last.last, period) > now)
    }

    /// Removes the requests that ended more than a period ago.
    fn expire(&mut self, period: Duration, now: Instant) {
        while let Some(oldest) = self.buckets.front()
            && add_capped(oldest.last, period) <= now
        {
            self.count -= oldest.count;
            self.buckets.pop_front();
        }
    }
}

/// Resolution of the count: requests that end within this fraction of a period share a bucket.
const BUCKETS_PER_PERIOD: u32 = 1000;
