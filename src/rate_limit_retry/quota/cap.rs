//! A limit that the caller sets, whatever the server says.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::admit::Admit;
use crate::{
    clock::after,
    rate_limit_retry::{
        headers::{Limit, Unit},
        limits::OwnLimit,
    },
};

/// Counts what has been sent. What is in flight counts, and what has ended counts for a period from its end: whenever
/// the server counted it, it never sees more than it should.
#[derive(Debug)]
pub(super) struct Cap {
    limit: OwnLimit,
    ended: VecDeque<Ended>,
    count: u64,
    /// When requests would go that are spaced evenly.
    even: Option<Instant>,
}

/// Requests that ended together.
#[derive(Clone, Copy, Debug)]
struct Ended {
    first: Instant,
    last: Instant,
    count: u64,
}

impl Cap {
    pub(super) fn new(limit: OwnLimit) -> Self {
        Self {
            limit,
            ended: VecDeque::new(),
            count: 0,
            even: None,
        }
    }

    /// `None` if nothing speaks against one more. `smooth` spaces requests evenly.
    pub(super) fn admit(&mut self, in_flight: u32, smooth: bool, now: Instant) -> Option<Admit> {
        if self.limit.at_once.is_some_and(|most| in_flight >= most) {
            return Some(Admit::AfterAnswer(None));
        }
        let (most, period) = self.limit.rate?;
        self.expire(period, now);
        if self.count + u64::from(in_flight) >= u64::from(most) {
            let at = self.ended.front().map(|oldest| after(oldest.last, period));
            return Some(match at {
                Some(at) if in_flight == 0 => Admit::NotBefore(at),
                at => Admit::AfterAnswer(at),
            });
        }
        let burst = if smooth { Some(1) } else { self.limit.burst };
        let early = (period / most).saturating_mul(burst?.saturating_sub(1));
        let at = self.even.map(|even| even.checked_sub(early).unwrap_or(now));
        at.filter(|at| *at > now).map(Admit::NotBefore)
    }

    pub(super) fn entered(&mut self, now: Instant) {
        if let Some((most, period)) = self.limit.rate {
            let even = self.even.map_or(now, |even| even.max(now));
            self.even = Some(after(even, period / most));
        }
    }

    /// A request has been sent, and has ended by `now`.
    pub(super) fn ended(&mut self, now: Instant) {
        let Some((_, period)) = self.limit.rate else {
            return;
        };
        self.expire(period, now);
        self.count += 1;
        match self.ended.back_mut() {
            Some(back) if now.saturating_duration_since(back.first) <= period / GRAINS => {
                back.last = back.last.max(now);
                back.count += 1;
            }
            _ => self.ended.push_back(Ended {
                first: now,
                last: now,
                count: 1,
            }),
        }
    }

    /// The server itself says what the limit is.
    pub(super) fn told(&mut self, told: &Limit) {
        if self.limit.until_told
            && told.unit == Unit::Requests
            && let Some(limit) = told.limit.and_then(|limit| u32::try_from(limit).ok())
            && let Some((most, period)) = &mut self.limit.rate
        {
            *most = limit.max(1);
            *period = told.window.unwrap_or(*period);
        }
    }

    /// Whether something that has been sent still counts.
    pub(super) fn is_used(&self, now: Instant) -> bool {
        let (last, rate) = (self.ended.back(), self.limit.rate);
        last.zip(rate)
            .is_some_and(|(last, (_, period))| after(last.last, period) > now)
    }

    fn expire(&mut self, period: Duration, now: Instant) {
        while let Some(oldest) = self.ended.front()
            && after(oldest.last, period) <= now
        {
            self.count -= oldest.count;
            self.ended.pop_front();
        }
    }
}

/// What ends within this part of a period is remembered together.
const GRAINS: u32 = 1000;
