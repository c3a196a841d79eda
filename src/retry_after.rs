//! Parses `Retry-After` (RFC 9110 §10.2.3), and other numbers that denote an end time, into a wait.
//!
//! | value | meaning |
//! |---|---|
//! | `23`, `0.5` | seconds |
//! | `1790000023` (10⁹ and more) | seconds since 1970 |
//! | `1790000023000` (10¹¹ and more) | milliseconds since 1970 |
//! | 10¹⁴ and more, 10¹⁷ and more | micro- and nanoseconds since 1970; the longest wait in `Retry-After` |
//! | `Mon, 21 Sep 2026 14:13:20 GMT` | an HTTP-date, in its three forms and with other names of UTC |
//!
//! All functions take time proportional to the length of the value, and allocate only for dates with another name of UTC.
//!
//! A wait is never negative and never more than ten years; the limits that a layer applies (`max_wait`, `max_hold`) are
//! applied later, so that an event reports what the server asked for.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header::DATE};

use crate::steps::count_steps;

/// Returns the wait that a `Retry-After` asks for, at most [`MAX_WAIT`]; `None` if the value is malformed.
///
/// Dates are relative to `reference`, the time at which the response was made (see [`reference()`]). Accepts seconds,
/// also with a fraction, which no RFC allows but some servers send, and all three forms of an HTTP-date (RFC 9110
/// §5.6.7). A date in the past is a wait of zero. A number too large for a date in milliseconds counts as the longest
/// wait, and not as a malformed value that would be ignored.
pub(crate) fn retry_after(value: &[u8], reference: SystemTime) -> Option<Duration> {
    let value = value.trim_ascii();
    match Number::parse(value) {
        Some(number) if number.whole >= END_OF_EPOCH_MILLIS => Some(MAX_WAIT),
        Some(number) => number.wait(reference),
        None => {
            // Not a number: one of the forms of an HTTP-date.
            let date = http_date(std::str::from_utf8(value).ok()?)?;
            Some(until(date, reference))
        }
    }
}

/// Returns the time at which a response was made: its `Date` if it has a valid one, otherwise `now`.
///
/// A server computes its dates by its own clock, so the difference between the two clocks cancels out.
pub(crate) fn reference(headers: &HeaderMap, now: SystemTime) -> SystemTime {
    date(headers).unwrap_or(now)
}

/// Returns the `Date` of a response, if it has a valid one (RFC 9110 §6.6.1).
pub(crate) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    http_date(headers.get(DATE)?.to_str().ok()?)
}

/// Parses an HTTP-date (RFC 9110 §5.6.7). Accepts `UTC`, `+0000`, `-0000` and `Z` for `GMT`, as Go and others print it.
pub(crate) fn http_date(text: &str) -> Option<SystemTime> {
    if let Ok(date) = httpdate::parse_http_date(text) {
        return Some(date);
    }
    let mut zones = ["UTC", "+0000", "-0000", "Z"].into_iter();
    let zoneless = zones.find_map(|zone| text.strip_suffix(zone)?.strip_suffix(' '))?;
    // Limits what is copied of a hostile value.
    if zoneless.len() > MAX_DATE_LEN {
        return None;
    }
    httpdate::parse_http_date(&format!("{zoneless} GMT")).ok()
}

/// An unsigned decimal number: digits, optionally followed by a point and more digits.
///
/// A fraction of more than nine digits is truncated, and an integer part beyond `u64::MAX` counts as `u64::MAX`: a
/// number of any length is read in one pass and without an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    /// Integer part; saturates at `u64::MAX`.
    pub(crate) whole: u64,
    /// Fraction, in billionths.
    nanos: u32,
}

impl Number {
    /// Parses a number. Returns `None` for anything else: a sign, an exponent, or no digit before or after the point.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        count_steps(text.len());
        let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
            Some(point) => (&text[..point], &text[point + 1..]),
            None => (text, &b"0"[..]),
        };
        Some(Self {
            whole: digits(whole)?,
            nanos: nanos(fraction)?,
        })
    }

    /// Returns the time from `reference` to what this number denotes, at most [`MAX_WAIT`]; `None` if it is a date more
    /// than 400 days from `reference`.
    ///
    /// Only the size of the number distinguishes seconds from a date in seconds, milliseconds or finer units since 1970,
    /// because the names of the fields do not: GitLab sends a date where the IETF draft specifies seconds. No real value
    /// is misread: 10⁹ seconds are 31 years, and 10⁹ as a date is in 2001.
    pub(crate) fn wait(self, reference: SystemTime) -> Option<Duration> {
        let since_epoch = match self.whole {
            // Too small for a date: a number of seconds.
            ..START_OF_EPOCH_SECONDS => {
                return Some(Duration::new(self.whole, self.nanos).min(MAX_WAIT));
            }
            // The fraction of a date in finer units than seconds is dropped.
            START_OF_EPOCH_SECONDS..START_OF_EPOCH_MILLIS => Duration::new(self.whole, self.nanos),
            START_OF_EPOCH_MILLIS..END_OF_EPOCH_MILLIS => Duration::from_millis(self.whole),
            END_OF_EPOCH_MILLIS..END_OF_EPOCH_MICROS => Duration::from_micros(self.whole),
            END_OF_EPOCH_MICROS.. => Duration::from_nanos(self.whole),
        };
        let date = SystemTime::UNIX_EPOCH.checked_add(since_epoch)?;
        // The distance in either direction: a date long past is as implausible as one far ahead.
        let off = date
            .duration_since(reference)
            .unwrap_or_else(|error| error.duration());
        (off <= MAX_DATE_OFFSET).then(|| until(date, reference))
    }

    /// Returns whether [`wait`](Self::wait) takes this for a date.
    pub(crate) fn is_date(self) -> bool {
        self.whole >= START_OF_EPOCH_SECONDS
    }

    /// Returns whether it is a date in milliseconds or finer units.
    pub(crate) fn is_date_in_millis(self) -> bool {
        self.whole >= START_OF_EPOCH_MILLIS
    }

    /// Returns the duration of this many units of `nanos` nanoseconds, at most [`MAX_WAIT`].
    pub(crate) fn times(self, nanos: u64) -> Duration {
        // In 128 bits, so that the products cannot overflow.
        let whole = u128::from(self.whole) * u128::from(nanos);
        let part = u128::from(self.nanos) * u128::from(nanos) / u128::from(SECOND);
        let sum = (whole + part).min(MAX_WAIT.as_nanos());
        u64::try_from(sum).map_or(MAX_WAIT, Duration::from_nanos)
    }

    /// Returns the number as a float.
    pub(crate) fn as_f64(self) -> f64 {
        self.whole as f64 + f64::from(self.nanos) / 1e9
    }
}

/// Returns the time from `reference` to a date, at most [`MAX_WAIT`]; zero if the date has passed.
pub(crate) fn until(date: SystemTime, reference: SystemTime) -> Duration {
    date.duration_since(reference)
        .unwrap_or_default()
        .min(MAX_WAIT)
}

/// Returns the value of one or more digits, saturating; `None` for anything else.
fn digits(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| {
        // Saturates, so that a number of any length is read as a very large one.
        text.iter().fold(0, |sum: u64, digit| {
            sum.saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        })
    })
}

/// Returns the first nine digits after the point as nanoseconds; `None` unless all of them are digits.
fn nanos(fraction: &[u8]) -> Option<u32> {
    let all = !fraction.is_empty() && fraction.iter().all(u8::is_ascii_digit);
    all.then(|| {
        let padded = fraction
            .iter()
            .copied()
            .chain(std::iter::repeat(b'0'))
            .take(9);
        padded.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
    })
}

/// Upper bound on a wait: longer than any caller waits, and short enough to be added to any instant.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Maximum distance between a date and the response that contains it.
const MAX_DATE_OFFSET: Duration = Duration::from_secs(400 * 24 * 3600);

/// A millisecond, in nanoseconds.
pub(crate) const MILLI: u64 = 1_000_000;
/// A second, in nanoseconds.
pub(crate) const SECOND: u64 = 1_000 * MILLI;
/// A minute, in nanoseconds.
pub(crate) const MINUTE: u64 = 60 * SECOND;
/// An hour, in nanoseconds.
pub(crate) const HOUR: u64 = 60 * MINUTE;
/// A day, in nanoseconds.
pub(crate) const DAY: u64 = 24 * HOUR;

/// Maximum length, in bytes, of an HTTP-date without its zone: `Wednesday, 21-Sep-26 14:14:20`.
const MAX_DATE_LEN: usize = 30;
/// Number from which on it is a date in seconds since 1970.
const START_OF_EPOCH_SECONDS: u64 = 1_000_000_000;
/// Number from which on it is a date in milliseconds since 1970.
const START_OF_EPOCH_MILLIS: u64 = 100_000_000_000;
/// Number from which on it is a date in microseconds since 1970.
const END_OF_EPOCH_MILLIS: u64 = 100_000_000_000_000;
/// Number from which on it is a date in nanoseconds since 1970.
const END_OF_EPOCH_MICROS: u64 = 100_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// Mon, 21 Sep 2026 14:13:20 GMT.
    const NOW: u64 = 1_790_000_000;
    const DAYS: u64 = 24 * 3600;

    #[test]
    fn seconds_and_dates_are_read() {
        for (value, seconds) in [
            ("0", 0.0),
            ("120", 120.0),
            (" 7\t", 7.0),
            ("1.5", 1.5),
            ("2.0", 2.0),
            ("0.0000000019", 0.000_000_001),
            ("86400", 86400.0),
            ("Mon, 21 Sep 2026 14:14:20 GMT", 60.0),
            ("Monday, 21-Sep-26 14:14:20 GMT", 60.0),
            ("Mon Sep 21 14:14:20 2026", 60.0),
            ("Mon, 21 Sep 2026 14:14:20 UTC", 60.0),
            ("Mon, 21 Sep 2026 14:14:20 +0000", 60.0),
            ("Monday, 21-Sep-26 14:14:20 UTC", 60.0),
            ("Mon, 21 Sep 2026 14:08:20 GMT", 0.0),
            ("1790000060", 60.0),
            ("1790000060.5", 60.5),
            ("1790000060250", 60.25),
            ("1789999999", 0.0),
        ] {
            let wait = Duration::from_secs_f64(seconds);

            assert_eq!(read(value), Some(wait), "{value:?}");
        }
    }

    #[test]
    fn malformed_values_are_ignored() {
        let numbers =
            "-5 +5 1e3 1. .5 1.5s 1,5 5,10 0x10 NaN inf \u{661} soon 2026-09-21T14:14:20Z";
        let dates = [
            "Mon, 21 Sep 2026 14:14:20 CET",
            "Mon, 32 Sep 2026 14:14:20 GMT",
        ];
        for value in numbers.split(' ').chain(dates).chain(["", " ", "1 2"]) {
            assert_eq!(read(value), None, "{value:?}");
        }
    }

    #[test]
    fn a_number_of_an_implausible_date_is_malformed() {
        assert_eq!(
            read(&(NOW + 400 * DAYS).to_string()),
            Some(Duration::from_secs(400 * DAYS))
        );
        assert_eq!(read(&(NOW + 400 * DAYS + 1).to_string()), None);
        assert_eq!(read(&(NOW - 400 * DAYS - 1).to_string()), None);
        assert_eq!(read("99999999999"), None);
    }

    #[test]
    fn huge_waits_are_capped() {
        for value in [
            "999999999",
            "100000000000000",
            "99999999999999999999",
            "Fri, 31 Dec 9999 23:59:59 GMT",
        ] {
            assert_eq!(read(value), Some(MAX_WAIT), "{value:?}");
        }
    }

    #[test]
    fn dates_are_relative_to_the_date_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(reference(&headers, now()), now());

        headers.insert(DATE, HeaderValue::from_static("yesterday"));
        assert_eq!(reference(&headers, now()), now());

        headers.insert(
            DATE,
            HeaderValue::from_static("Mon, 21 Sep 2026 14:14:20 GMT"),
        );
        assert_eq!(reference(&headers, now()), now() + Duration::from_secs(60));
    }

    proptest! {
        #[test]
        fn no_value_panics_or_exceeds_the_maximum(value in any::<Vec<u8>>(), now in any::<u32>()) {
            let wait = retry_after(&value, SystemTime::UNIX_EPOCH + Duration::from_secs(now.into()));

            prop_assert!(wait <= Some(MAX_WAIT));
        }

        #[test]
        fn seconds_are_read_unchanged(seconds in 0..MAX_WAIT.as_secs(), millis in 0..1000u32) {
            let wait = Duration::new(seconds, millis * 1_000_000);

            prop_assert_eq!(read(&format!("{seconds}.{millis:03}")), Some(wait));
        }
    }

    fn read(value: &str) -> Option<Duration> {
        retry_after(value.as_bytes(), now())
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }
}
