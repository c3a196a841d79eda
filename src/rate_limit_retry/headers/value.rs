//! Parsers for field values: times, counts and limits, in every form that servers send.
//!
//! All parsers take bytes, because field values need not be UTF-8. A malformed value yields `None` or is omitted. No
//! parser panics, and each one runs in time proportional to the length of the value.
//!
//! Parsers are lenient where the intention of the server is clear, and strict where it is not: `5 Minutes` is a
//! duration, `1s2` is nothing. Numbers saturate instead of failing, because a server that sends too large a wait wants
//! a long one.

use std::time::{Duration, SystemTime};

use super::{
    date,
    words::{unit_of, window_of},
};
use crate::{
    retry_after::{MAX_WAIT, MILLI, Number, SECOND, until},
    steps::count_steps,
};

/// A point in time, relative to the response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ResetTime {
    /// Sent as a duration.
    Relative(Duration),
    /// Sent as a date, and converted to the time from the reference; zero for a date in the past. As accurate as the
    /// reference that it was compared with.
    Absolute(Duration),
}

impl ResetTime {
    /// Parses a point in time. The form of the value decides, because field names are ambiguous:
    ///
    /// | value | meaning |
    /// |---|---|
    /// | a number below 10⁹ | seconds from now |
    /// | a larger number | a date since 1970 |
    /// | a duration with units | from now |
    /// | a written date | that date |
    ///
    /// Returns `None` if the value has none of these forms.
    pub(super) fn parse(value: &[u8], reference: SystemTime) -> Option<Self> {
        if let Some(number) = Number::parse(value) {
            let wait = number.wait(reference)?;
            return Some(if number.is_date() {
                Self::Absolute(wait)
            } else {
                Self::Relative(wait)
            });
        }
        if let Some(duration) = duration(value) {
            return Some(Self::Relative(duration));
        }
        let date = date::parse(std::str::from_utf8(value).ok()?)?;
        Some(Self::Absolute(until(date, reference)))
    }

    /// Parses a number of units of `scale` nanoseconds, if the field name or a profile gives the unit. Otherwise like
    /// [`parse`](Self::parse).
    ///
    /// A number in the range of a date in milliseconds is a date in any case, because no duration is that long. A
    /// number in the range of a date in seconds is a date only if the unit is a second or longer: 10⁹ ms are twelve
    /// days, which a reset may well be.
    pub(super) fn parse_scaled(
        scale: Option<u64>,
        value: &[u8],
        reference: SystemTime,
    ) -> Option<Self> {
        let (Some(scale), Some(number)) = (scale, Number::parse(value)) else {
            return Self::parse(value, reference);
        };
        if number.is_date() && (scale >= SECOND || number.is_date_in_millis()) {
            return Some(Self::Absolute(number.wait(reference)?));
        }
        Some(Self::Relative(number.times(scale)))
    }

    /// Parses milliseconds from now (gRPC A6).
    pub(super) fn parse_millis(value: &[u8]) -> Option<Self> {
        Some(Self::Relative(Number::parse(value)?.times(MILLI)))
    }

    /// Returns the duration from the response until this point in time.
    pub(super) fn delay(self) -> Duration {
        match self {
            Self::Relative(wait) | Self::Absolute(wait) => wait,
        }
    }
}

/// Parses a duration in Go's format: `1s`, `6m0s`, `2m59.56s`, `12ms`. Also accepts days, words (`1 minute 30
/// seconds`), and ISO 8601 up to hours (`PT1M30S`).
pub(super) fn duration(value: &[u8]) -> Option<Duration> {
    // Only the time part of ISO 8601 is supported.
    let mut rest = value.strip_prefix(b"PT").unwrap_or(value);
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .iter()
            .take_while(|b| b.is_ascii_digit() || **b == b'.')
            .count();
        let (number, after) = rest.split_at(digits);
        // Everything up to the next number is the unit, with spaces and separators.
        let letters = after
            .iter()
            .take_while(|b| !b.is_ascii_digit() && **b != b'.')
            .count();
        let (unit, after) = after.split_at(letters);
        count_steps(letters);
        let unit = std::str::from_utf8(unit)
            .ok()?
            .trim_matches([' ', '-', ',']);
        // Saturates: an absurd duration is a very long one, not an error.
        sum = sum
            .saturating_add(Number::parse(number)?.times(unit_of(unit)?))
            .min(MAX_WAIT);
        rest = after;
    }
    (!value.is_empty()).then_some(sum)
}

/// Parses the length of a window: a number of units of `scale` nanoseconds (default: seconds), a duration, or words:
/// `60`, `600s`, `24-hour`, `per minute`.
pub(super) fn period(scale: Option<u64>, value: &[u8]) -> Option<Duration> {
    let period = match Number::parse(value) {
        Some(number) => number.times(scale.unwrap_or(SECOND)),
        None => duration(value).or_else(|| {
            let words = std::str::from_utf8(value).ok()?;
            Some(Duration::from_secs(window_of([words].into_iter())?).min(MAX_WAIT))
        })?,
    };
    // A window of zero would not limit anything.
    (!period.is_zero()).then_some(period)
}

/// Returns whether the value of a limit means "no limit": `-1`, `unlimited`.
pub(super) fn is_unlimited(item: &[u8]) -> bool {
    let below = item.strip_prefix(b"-").and_then(Number::parse);
    below.is_some_and(|below| below.whole > 0)
        || ["unlimited", "infinite", "infinity", "inf", "none"]
            .iter()
            .any(|word| item.eq_ignore_ascii_case(word.as_bytes()))
}

/// Returns the names of quotas and their values.
///
/// | value | result |
/// |---|---|
/// | `name=burst,10;name=daily,1000` | `burst` 10, `daily` 1000 |
/// | `minute=60, day=1000` | `minute` 60, `day` 1000 |
/// | `user-hour-lim:3500;user-hour-rem:500` | `user-hour-lim` 3500, `user-hour-rem` 500 |
pub(super) fn named_values(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pieces = split_quoted(value, b';');
    pieces.flat_map(|piece| {
        // `name=burst,10`: the name follows `name=`, the value follows the last comma.
        let labelled = split_pair(piece, b'=').and_then(|(key, rest)| {
            let at = rest.iter().rposition(|byte| *byte == b',')?;
            let (name, number) = (rest[..at].trim_ascii(), rest[at + 1..].trim_ascii());
            (key.eq_ignore_ascii_case(b"name") && !number.contains(&b'=')).then_some((name, number))
        });
        // Otherwise pairs, separated by commas.
        let several = labelled.is_none().then(|| split_quoted(piece, b','));
        let several = several.into_iter().flatten();
        labelled.into_iter().chain(several.filter_map(|pair| {
            let at = pair.iter().position(|byte| matches!(byte, b'=' | b':'))?;
            Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
        }))
    })
}

/// Returns the names of quotas and their values if semicolons separate them (Azure): `reads;133,writes;57`.
pub(super) fn labeled_values(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    split_quoted(value, b',').filter_map(|item| {
        let (name, number) = split_pair(item, b';')?;
        let plain = !name.iter().any(|byte| matches!(byte, b'=' | b':'));
        (plain && Number::parse(number).is_some()).then_some((name, number))
    })
}

/// Parses a remaining count, rounded down.
///
/// | value | result |
/// |---|---|
/// | `598.0` (Reddit) | 598 |
/// | `-1`, which means "unknown" (Azure) | `None` |
/// | `-3`, an overdrawn quota | 0 |
pub(super) fn remaining(item: &[u8]) -> Option<u64> {
    match item.strip_prefix(b"-") {
        Some(below) => (Number::parse(below)?.whole > 1).then_some(0),
        None => Some(Number::parse(item)?.whole),
    }
}

/// Parses `used/limit`, after an optional name: `32/40`, `api-usage=10018/100000`.
pub(super) fn used_of_limit(value: &[u8]) -> Option<(u64, u64)> {
    let value = split_quoted(value, b';').next()?;
    // Skips the name of the quota.
    let start = value.iter().position(|b| *b == b'=').map_or(0, |at| at + 1);
    let (used, limit) = split_pair(&value[start..], b'/')?;
    // Skips the remark that Salesforce appends: `17/250(appName=x)`.
    let limit = limit.split(|b| *b == b'(').next()?;
    Some((Number::parse(used)?.whole, Number::parse(limit)?.whole))
}

/// Parses `limit:seconds` pairs: `20:1,100:120`. Returns `None` if any pair is malformed: a value that contains
/// something else, such as a time of day, must not be taken for a limit.
pub(super) fn by_seconds(value: &[u8]) -> Option<Vec<(u64, u64)>> {
    let pair = |item| {
        let (count, seconds) = split_pair(item, b':')?;
        Some((Number::parse(count)?.whole, Number::parse(seconds)?.whole))
    };
    split_quoted(value, b',').map(pair).collect()
}

/// Returns the trimmed text before and after the first `separator`.
pub(super) fn split_pair(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    count_steps(text.len());
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((text[..at].trim_ascii(), text[at + 1..].trim_ascii()))
}

/// Returns the trimmed parts of `text` between `separator`s that are not in quoted strings. An empty text has one empty
/// part. Quotes are kept.
pub(super) fn split_quoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |byte| {
        count_steps(1);
        // A separator counts only outside of quotes; a backslash escapes the next byte inside.
        let outside = !quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        outside && *byte == separator
    })
    .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_with_units() {
        for (value, expected) in [
            ("1s", Some(1_000)),
            ("12ms", Some(12)),
            ("6m0s", Some(360_000)),
            ("2m59.56s", Some(179_560)),
            ("1h2m3s", Some(3_723_000)),
            ("1d", Some(86_400_000)),
            ("1500us", Some(1)),
            ("1 minute 30 seconds", Some(90_000)),
            ("5 Minutes", Some(300_000)),
            ("PT1M30S", Some(90_000)),
            ("24-hours", Some(86_400_000)),
            ("1500\u{b5}s", Some(1)),
            ("99999999999999999999d", Some(MAX_WAIT.as_millis())),
            ("1", None),
            ("s", None),
            ("1x", None),
            ("1s2", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("", None),
        ] {
            let read = duration(value.as_bytes()).map(|wait| wait.as_millis());

            assert_eq!(read, expected, "{value}");
        }
    }

    #[test]
    fn remaining_is_rounded_down_and_minus_one_is_unknown() {
        for (item, expected) in [
            ("0", Some(0)),
            ("598.0", Some(598)),
            ("0.9", Some(0)),
            ("-1", None),
            ("-3", Some(0)),
            ("99999999999999999999", Some(u64::MAX)),
            ("--3", None),
            ("few", None),
            ("", None),
        ] {
            assert_eq!(remaining(item.as_bytes()), expected, "{item}");
        }
    }

    #[test]
    fn remaining_of_limit_is_parsed_with_and_without_a_name() {
        for (value, expected) in [
            ("32/40", Some((32, 40))),
            ("api-usage=10018/100000", Some((10018, 100_000))),
            ("api-usage=1/9; per-app=17/250(app=x)", Some((1, 9))),
            ("17/250(app)", Some((17, 250))),
            ("40", None),
            ("a/b", None),
        ] {
            assert_eq!(used_of_limit(value.as_bytes()), expected, "{value}");
        }
    }
}
