//! Values that say when something is over, or how much there is, in every form that servers use.

use std::time::{Duration, SystemTime};

use super::date;
use crate::retry_after::{LONGEST, Number, until};

/// When something is over, counted from the response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum When {
    /// The server told a length of time.
    In(Duration),
    /// The server told a date, which is worth as much as the reference.
    At(Duration),
}

impl When {
    /// Seconds, a date in a number, a duration with units, or a written date: its form alone decides, because the
    /// names of fields do not. `None` if it is none of these.
    pub(super) fn parse(value: &[u8], reference: SystemTime) -> Option<Self> {
        if let Some(number) = Number::parse(value) {
            let wait = number.wait(reference)?;
            return Some(if number.is_date() {
                Self::At(wait)
            } else {
                Self::In(wait)
            });
        }
        if let Some(duration) = duration(value) {
            return Some(Self::In(duration));
        }
        let date = date::parse(std::str::from_utf8(value).ok()?)?;
        Some(Self::At(until(date, reference)))
    }

    /// Milliseconds, where the name of the field or a profile says so.
    pub(super) fn parse_millis(value: &[u8]) -> Option<Self> {
        let millis = Number::parse(value)?.whole;
        Some(Self::In(Duration::from_millis(millis).min(LONGEST)))
    }

    pub(super) fn wait(self) -> Duration {
        match self {
            Self::In(wait) | Self::At(wait) => wait,
        }
    }
}

/// A duration as Go prints it: `1s`, `6m0s`, `2m59.56s`, `12ms`. Also days.
fn duration(value: &[u8]) -> Option<Duration> {
    let mut rest = value;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .iter()
            .take_while(|b| b.is_ascii_digit() || **b == b'.')
            .count();
        let (number, after) = rest.split_at(digits);
        let letters = after
            .iter()
            .take_while(|b| !b.is_ascii_digit() && **b != b'.')
            .count();
        let (unit, after) = after.split_at(letters);
        let seconds = match unit {
            b"ns" => 1e-9,
            b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => 1e-6,
            b"ms" => 1e-3,
            b"s" => 1.0,
            b"m" => 60.0,
            b"h" => 3600.0,
            b"d" => 86400.0,
            _ => return None,
        };
        let part = Number::parse(number)?.as_f64() * seconds;
        let part = Duration::try_from_secs_f64(part).unwrap_or(LONGEST);
        sum = sum.saturating_add(part).min(LONGEST);
        rest = after;
    }
    (!value.is_empty()).then_some(sum)
}

/// How much is left, rounded down: Reddit sends `598.0`. `-1` stands for "unknown" (Azure); a count further below zero
/// is how some servers say how far it has been overdrawn.
pub(super) fn remaining(item: &[u8]) -> Option<u64> {
    match item.strip_prefix(b"-") {
        Some(below) => (Number::parse(below)?.whole > 1).then_some(0),
        None => Some(Number::parse(item)?.whole),
    }
}

/// `used/limit`, after an optional name: `32/40`, `api-usage=10018/100000`.
pub(super) fn used_of_limit(value: &[u8]) -> Option<(u64, u64)> {
    let value = split(value, b';').next()?;
    let start = value.iter().position(|b| *b == b'=').map_or(0, |at| at + 1);
    let (used, limit) = halves(&value[start..], b'/')?;
    let limit = limit.split(|b| *b == b'(').next()?;
    Some((Number::parse(used)?.whole, Number::parse(limit)?.whole))
}

/// `limit:seconds` pairs: `20:1,100:120`.
pub(super) fn by_seconds(value: &[u8]) -> Option<Vec<(u64, u64)>> {
    let pair = |item| {
        let (count, seconds) = halves(item, b':')?;
        Some((Number::parse(count)?.whole, Number::parse(seconds)?.whole))
    };
    split(value, b',').map(pair).collect()
}

/// What is before and after the first `separator`, trimmed.
pub(super) fn halves(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((text[..at].trim_ascii(), text[at + 1..].trim_ascii()))
}

/// The trimmed parts of `text` between `separator`s outside of quoted strings.
pub(super) fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |byte| {
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
    fn durations_are_read_with_their_units() {
        for (value, expected) in [
            ("1s", Some(1_000)),
            ("12ms", Some(12)),
            ("6m0s", Some(360_000)),
            ("2m59.56s", Some(179_560)),
            ("1h2m3s", Some(3_723_000)),
            ("1d", Some(86_400_000)),
            ("1500us", Some(1)),
            ("1500\u{b5}s", Some(1)),
            ("99999999999999999999d", Some(LONGEST.as_millis())),
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
    fn what_remains_is_rounded_down_and_minus_one_is_unknown() {
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
    fn a_share_of_a_limit_is_read_with_and_without_a_name() {
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
