//! Models of quotas that count requests. They take the time as an argument.
//!
//! - A fixed window begins with its first request and admits up to the limit until it ends.
//! - A sliding window keeps the time of each request, and admits one if fewer than the limit are within the window.
//! - A token bucket holds up to the limit of tokens, is refilled at a constant rate, and admits a request for each token.
//!
//! A request that is admitted is charged. With `count_throttled`, a rejected one is charged as well. A fixed window is
//! full by then, so nothing changes; in a sliding window it must leave before another request is admitted; a bucket
//! goes into debt, at most by its capacity.

use std::{collections::VecDeque, time::Duration};

use super::quota::{COMPARISON_TOLERANCE, Model, Quota, refill};

/// A [`Meter`]'s decision on one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Decision {
    /// Whether the request is admitted.
    pub(super) allowed: bool,
    /// Limit of the quota.
    pub(super) limit: u32,
    /// Number of further requests that would be admitted now.
    pub(super) remaining: u32,
    /// Time until `remaining` grows: the end of the window, the oldest request leaving it, or the full bucket.
    pub(super) reset_after: Duration,
    /// Time until the next request is admitted; zero if it would be admitted now.
    pub(super) retry_after: Duration,
}

/// A quota and its use. All times are since an arbitrary start, and must not decrease.
#[derive(Debug)]
pub(super) struct Meter {
    /// The quota.
    quota: Quota,
    /// Whether rejected requests are charged.
    count_throttled: bool,
    /// Use of the quota.
    state: State,
}

/// The use of a quota.
#[derive(Debug)]
enum State {
    /// A fixed window.
    Fixed {
        /// Start of the current window; `None` before its first request.
        started: Option<Duration>,
        /// Number of requests in it.
        used: u32,
    },
    /// Times of the requests in the sliding window, oldest first.
    Sliding(VecDeque<Duration>),
    /// A token bucket.
    Bucket {
        /// Number of tokens. Negative while in debt.
        level: f64,
        /// Time at which `level` was computed.
        updated: Duration,
    },
}

impl Meter {
    /// Creates an unused meter.
    pub(super) fn new(quota: Quota, count_refused: bool) -> Self {
        let state = match quota.model {
            Model::FixedWindow(_) => State::Fixed {
                started: None,
                used: 0,
            },
            Model::SlidingWindow(_) => State::Sliding(VecDeque::new()),
            Model::TokenBucket { .. } => State::Bucket {
                level: f64::from(quota.limit),
                updated: Duration::ZERO,
            },
        };
        Self {
            quota,
            count_throttled: count_refused,
            state,
        }
    }

    /// Returns the quota.
    pub(super) fn quota(&self) -> Quota {
        self.quota
    }

    /// Admits or rejects a request at `now`, and counts it.
    pub(super) fn admit(&mut self, now: Duration) -> Decision {
        let allowed = self.peek(now).allowed;
        // A charged rejection extends the wait, as on servers that count every request.
        if allowed || self.count_throttled {
            self.charge(now);
        }
        Decision {
            allowed,
            ..self.peek(now)
        }
    }

    /// Returns the decision that [`admit`](Self::admit) would start from: `allowed` is about the next request. Counts
    /// nothing.
    pub(super) fn peek(&mut self, now: Duration) -> Decision {
        self.advance(now);
        let limit = self.quota.limit;
        let window = self.quota.window();
        let (remaining, reset_after, retry_after) = match (&self.state, self.quota.model) {
            (State::Fixed { started, used }, _) => {
                // A window that has not begun would begin now.
                let end = started.unwrap_or(now).saturating_add(window);
                let left = end.saturating_sub(now);
                (limit.saturating_sub(*used), left, left)
            }
            (State::Sliding(log), _) => {
                let leaves = |at: Option<&Duration>| {
                    at.map_or(window, |at| at.saturating_add(window).saturating_sub(now))
                };
                let used = u32::try_from(log.len()).unwrap_or(u32::MAX);
                // Charged rejections may have filled the log beyond the limit: this one must leave first.
                let blocking = log.len().saturating_sub(limit as usize);
                let remaining = limit.saturating_sub(used);
                (remaining, leaves(log.front()), leaves(log.get(blocking)))
            }
            (State::Bucket { level, .. }, Model::TokenBucket { per_second }) => (
                // Whole tokens only. The tolerance keeps a sum of fractions from falling just below one.
                (level + COMPARISON_TOLERANCE).max(0.0) as u32,
                refill(f64::from(limit) - level, per_second),
                refill(1.0 - level, per_second),
            ),
            // Unreachable: state and model are created together.
            (State::Bucket { .. }, _) => (0, window, window),
        };
        let allowed = remaining > 0;
        Decision {
            allowed,
            limit,
            remaining,
            reset_after,
            retry_after: if allowed { Duration::ZERO } else { retry_after },
        }
    }

    /// Removes what no longer counts at `now`.
    fn advance(&mut self, now: Duration) {
        match (&mut self.state, self.quota.model) {
            (State::Fixed { started, used }, Model::FixedWindow(window))
                if started.is_some_and(|started| now >= started.saturating_add(window)) =>
            {
                *started = None;
                *used = 0;
            }
            (State::Sliding(log), Model::SlidingWindow(window)) => {
                while log
                    .front()
                    .is_some_and(|at| now >= at.saturating_add(window))
                {
                    log.pop_front();
                }
            }
            (State::Bucket { level, updated }, Model::TokenBucket { per_second }) => {
                // A negative rate gains nothing.
                let gained = now.saturating_sub(*updated).as_secs_f64() * per_second.max(0.0);
                *level = (*level + gained).min(f64::from(self.quota.limit));
                *updated = now.max(*updated);
            }
            _ => {}
        }
    }

    /// Counts a request.
    fn charge(&mut self, now: Duration) {
        match &mut self.state {
            State::Fixed { started, used } => {
                started.get_or_insert(now);
                *used = used.saturating_add(1);
            }
            State::Sliding(log) => log.push_back(now),
            // Rejected requests that are charged put it into debt, up to its capacity.
            State::Bucket { level, .. } => {
                *level = (*level - 1.0).max(-f64::from(self.quota.limit));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn meter(quota: Quota) -> Meter {
        Meter::new(quota, false)
    }

    #[test]
    fn a_fixed_window_starts_with_its_first_request_and_admits_the_limit() {
        let mut meter = meter(Quota::fixed_window(2, s(60)));

        let first = meter.admit(s(7));
        let second = meter.admit(s(17));
        let third = meter.admit(s(27));

        assert_eq!((first.allowed, first.remaining), (true, 1));
        assert_eq!((second.allowed, second.remaining), (true, 0));
        assert!(!third.allowed);
        assert_eq!((third.reset_after, third.retry_after), (s(40), s(40)));
        assert!(!meter.admit(s(66)).allowed);
        assert!(meter.admit(s(67)).allowed);
        assert_eq!(meter.peek(s(67)).reset_after, s(60));
    }

    #[test]
    fn a_sliding_window_admits_when_its_oldest_request_expires() {
        let mut meter = meter(Quota::sliding_window(2, s(60)));
        meter.admit(s(0));
        meter.admit(s(30));

        let refused = meter.admit(s(40));

        assert_eq!((refused.allowed, refused.retry_after), (false, s(20)));
        assert!(meter.admit(s(60)).allowed);
        assert_eq!(meter.admit(s(60)).retry_after, s(30));
    }

    #[test]
    fn throttled_requests_extend_a_sliding_window_if_they_count() {
        let mut meter = Meter::new(Quota::sliding_window(1, s(60)), true);
        meter.admit(s(0));

        let refused = meter.admit(s(50));

        assert_eq!((refused.allowed, refused.retry_after), (false, s(60)));
        assert!(!meter.admit(s(60)).allowed);
        assert!(meter.admit(s(120)).allowed);
    }

    #[test]
    fn a_token_bucket_admits_its_capacity_and_then_its_rate() {
        let mut meter = meter(Quota::token_bucket(3, 0.1));

        let burst = (0..4).filter(|_| meter.admit(s(5)).allowed).count();

        let wait = meter.peek(s(5)).retry_after;
        assert_eq!(burst, 3);
        assert!(wait >= s(10) && wait < Duration::from_millis(10_001));
        assert!(!meter.admit(s(14)).allowed);
        assert!(meter.admit(s(5) + wait).allowed);
        assert!(!meter.admit(s(5) + wait).allowed);
    }

    #[test]
    fn a_bucket_without_a_rate_never_refills() {
        let mut meter = meter(Quota::token_bucket(1, 0.0));
        meter.admit(s(0));

        let refused = meter.admit(s(1_000_000));

        assert_eq!(
            (refused.allowed, refused.retry_after),
            (false, crate::test_util::quota::FOREVER)
        );
    }
}
