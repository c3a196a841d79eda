//! The difference between the server's clock and the local clock.
//!
//! A single `Date` is inaccurate by up to a second, because it is rounded down, and by the delay of the response.
//! Both errors make the server's clock appear too early. The latest of several dates is therefore the best estimate.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::collect::Collected;
use crate::retry_after;

/// The estimated clock skew of a server, from the `Date`s of its responses.
///
/// [`read`](super::read) interprets dates relative to the response's own `Date`, so that an incorrect clock on either
/// side has no effect. For responses without a `Date`, keep one `ClockSkew` per server and pass the server's time to
/// `read` instead of the local time.
///
/// The layer does this by itself. The default assumes that both clocks agree. Cheap to copy.
///
/// # Examples
///
/// ```
/// use std::time::SystemTime;
///
/// use http::{HeaderMap, StatusCode};
/// use tower_m2m::rate_limit_retry::headers::{ClockSkew, read};
///
/// let mut skew = ClockSkew::default();
/// # let (status, headers) = (StatusCode::OK, HeaderMap::new());
/// # #[expect(clippy::disallowed_methods, reason = "an example has no clock of its own")]
/// let now = SystemTime::now();
/// skew.observe(&headers, now);
/// let info = read(status, &headers, skew.server_time(now));
/// # assert!(info.is_empty());
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClockSkew {
    /// How far the server's clock is ahead; zero if it is behind.
    ahead: Duration,
    /// How far the server's clock is behind; zero if it is ahead.
    behind: Duration,
    /// Whether the skew was measured.
    known: bool,
}

impl ClockSkew {
    /// Updates the estimate from the `Date` of a response that has just arrived, at `now` by the local clock. Without
    /// a `Date`, a reset that the response contains both as a date and in seconds serves the same purpose.
    ///
    /// A `Date` is rounded down and delayed by the network, so the server's clock is never earlier than its `Date`.
    /// Of dates that agree within 10 s, the latest is kept. A date that disagrees replaces the estimate, because a
    /// clock was set. A response from a cache (`Age`) is ignored.
    pub fn observe(&mut self, headers: &HeaderMap, now: SystemTime) {
        if super::is_from_cache(headers) {
            return;
        }
        if let Some(date) = retry_after::date(headers).or_else(|| cross_check(headers, now)) {
            self.update(date, now);
        }
    }

    /// Updates the estimate from the `Date` of a response, if there is one. Costs less than [`observe`](Self::observe).
    /// Returns whether its resets say nothing more.
    pub(in super::super) fn observe_date(&mut self, headers: &HeaderMap, now: SystemTime) -> bool {
        if super::is_from_cache(headers) {
            return true;
        }
        let date = retry_after::date(headers);
        if let Some(date) = date {
            self.update(date, now);
        }
        date.is_some()
    }

    /// Updates the estimate: the server's clock showed `date` at `now`.
    fn update(&mut self, date: SystemTime, now: SystemTime) {
        let observed = Self {
            ahead: date.duration_since(now).unwrap_or_default(),
            behind: now.duration_since(date).unwrap_or_default(),
            known: true,
        };
        // The latest server time that agrees is the most accurate one: it had the shortest delay.
        let later = observed.ahead >= self.ahead && observed.behind <= self.behind;
        let apart = observed.ahead.abs_diff(self.ahead) + observed.behind.abs_diff(self.behind);
        if !self.known || later || apart > DATE_TOLERANCE {
            *self = observed;
        }
    }

    /// Returns the server's time when the local clock shows `now`; `now` itself while no skew is known.
    #[must_use]
    pub fn server_time(&self, now: SystemTime) -> SystemTime {
        let time = now
            .checked_add(self.ahead)
            .and_then(|time| time.checked_sub(self.behind));
        time.unwrap_or(now)
    }
}

/// Returns the server's time by its resets: a reset as a date, minus the same reset in seconds.
fn cross_check(headers: &HeaderMap, now: SystemTime) -> Option<SystemTime> {
    if !headers
        .keys()
        .any(|name| super::is_limit_field(name.as_str()))
    {
        return None;
    }
    // Waits are never negative. Relative to a reference far in the past, a date that is over by the local clock is
    // preserved.
    let long_ago = now.checked_sub(REFERENCE_OFFSET)?;
    let (date, wait) = Collected::read(headers, long_ago, None).cross_check()?;
    long_ago.checked_add(date)?.checked_sub(wait)
}

/// Distance of the reference in the past: half of the range in which numbers count as dates.
const REFERENCE_OFFSET: Duration = Duration::from_secs(200 * 24 * 3600);
/// Maximum difference between dates that agree: a second of rounding, and the delay of a slow response.
const DATE_TOLERANCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use http::header::{AGE, DATE};

    use super::*;

    #[test]
    fn skew_is_estimated_and_slow_responses_are_ignored() {
        for offset in [0, 90, 3600, 86_400] {
            for server_is_ahead in [true, false] {
                let shift = |now: SystemTime| {
                    let offset = Duration::from_secs(offset);
                    if server_is_ahead {
                        now + offset
                    } else {
                        now - offset
                    }
                };
                let mut skew = ClockSkew::default();

                skew.observe(&dated(shift(at(1000))), at(1000));
                skew.observe(&dated(shift(at(1001))), at(1005));

                assert_eq!(skew.server_time(at(2000)), shift(at(2000)), "{offset}");
            }
        }
    }

    #[test]
    fn a_clock_step_is_followed() {
        let mut skew = ClockSkew::default();
        skew.observe(&dated(at(5000)), at(1000));

        skew.observe(&dated(at(1001)), at(1001));

        assert_eq!(skew.server_time(at(1001)), at(1001));
    }

    #[test]
    fn two_forms_of_a_reset_replace_a_date() {
        for server in [at(1000 + 3600), at(1000) - Duration::from_secs(3600)] {
            let since = server.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", 23.into());
            headers.insert("x-ratelimit-remaining", 0.into());
            headers.insert("x-ratelimit-reset", (since.as_secs() + 23).into());
            let mut skew = ClockSkew::default();

            skew.observe(&headers, at(1000));

            assert_eq!(skew.server_time(at(1000)), server);
        }
    }

    #[test]
    fn without_a_valid_date_no_skew_is_estimated() {
        let mut skew = ClockSkew::default();
        let mut cached = dated(at(5000));
        cached.insert(AGE, "30".parse().unwrap());

        skew.observe(&cached, at(1000));
        skew.observe(&HeaderMap::new(), at(1000));

        assert_eq!(skew, ClockSkew::default());
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds)
    }

    fn dated(date: SystemTime) -> HeaderMap {
        let date = httpdate::fmt_http_date(date).parse().unwrap();
        HeaderMap::from_iter([(DATE, date)])
    }
}
