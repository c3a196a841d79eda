//! The three fields of the IETF RateLimit drafts 01 to 06: `RateLimit-Limit`, `-Remaining`, `-Reset`.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};

use super::Limit;
use crate::retry_after::{LONGEST, Number};

/// The names of three header fields that describe one quota between them.
pub(super) struct Fields {
    pub(super) limit: &'static str,
    pub(super) remaining: &'static str,
    pub(super) reset: &'static str,
}

/// draft-ietf-httpapi-ratelimit-headers-06 §3. The drafts want seconds in `RateLimit-Reset`; GitLab sends a date.
pub(super) const FIELDS: Fields = Fields {
    limit: "ratelimit-limit",
    remaining: "ratelimit-remaining",
    reset: "ratelimit-reset",
};

impl Fields {
    /// The quota; `None` if nothing is said about it. Of a field that is there more than once, the least generous value
    /// counts.
    pub(super) fn read(&self, headers: &HeaderMap, reference: SystemTime) -> Option<Limit> {
        let (limit, window) = values(headers, self.limit)
            .filter_map(limit)
            .min_by_key(|(limit, _)| *limit)
            .unzip();
        let found = Limit {
            limit,
            remaining: items(headers, self.remaining).filter_map(remaining).min(),
            reset: items(headers, self.reset)
                .filter_map(|item| Number::parse(item)?.wait(reference))
                .max(),
            window: window.flatten(),
        };
        (found != Limit::default()).then_some(found)
    }
}

/// The number of a `Limit` field, and the window of the policy that has the same number:
/// `100, 100;w=60, 5000;w=3600` is 100 in a minute (drafts 01 to 03, §3.1).
fn limit(value: &[u8]) -> Option<(u64, Option<Duration>)> {
    let policies = || {
        split(value, b',').map(|policy| {
            let mut parts = split(policy, b';');
            let count = parts.next().and_then(Number::parse);
            (count.map(|count| count.whole), parts)
        })
    };
    let (first, _) = policies().next()?;
    let first = first?;
    let window = policies()
        .filter(|(count, _)| *count == Some(first))
        .flat_map(|(_, parameters)| parameters)
        .find_map(window);
    Some((first, window))
}

/// Also `window=60`, as WHOOP writes it. A window of zero would be no window.
fn window(parameter: &[u8]) -> Option<Duration> {
    let at = parameter.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&parameter[..at], &parameter[at + 1..]);
    let named = name.eq_ignore_ascii_case(b"w") || name.eq_ignore_ascii_case(b"window");
    let seconds = Number::parse(value).filter(|_| named)?.whole;
    (seconds > 0).then(|| Duration::from_secs(seconds).min(LONGEST))
}

/// Rounded down, because Reddit sends `598.0`. `-1` stands for "unknown" (Azure); a count further below zero is how
/// some servers say how far it has been overdrawn.
fn remaining(item: &[u8]) -> Option<u64> {
    match item.strip_prefix(b"-") {
        Some(below) => (Number::parse(below)?.whole > 1).then_some(0),
        None => Some(Number::parse(item)?.whole),
    }
}

/// The items of a field whose lines may have been joined, without their parameters (Docker Hub sends `76;w=21600`).
fn items<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    values(headers, name)
        .flat_map(|value| split(value, b','))
        .filter_map(|item| split(item, b';').next())
}

fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().map(HeaderValue::as_bytes)
}

/// The trimmed parts of `text` between `separator`s outside of quoted strings.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
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
    fn the_window_is_that_of_the_policy_with_the_same_number() {
        for (value, expected) in [
            ("100", Some((100, None))),
            ("100;w=21600", Some((100, Some(21600)))),
            (
                "100, 100;w=60;burst=1000, 5000;w=3600",
                Some((100, Some(60))),
            ),
            ("100, 50;w=1, 100;window=60", Some((100, Some(60)))),
            (
                r#"100, 50;comment="a\", 100;w=1";w=5, 100; W=60"#,
                Some((100, Some(60))),
            ),
            ("100, 5000;w=3600", Some((100, None))),
            ("100;w=0, 100;w=-1, 100;w", Some((100, None))),
            ("99.9", Some((99, None))),
            ("-1", None),
            ("many, 100;w=60", None),
            ("", None),
        ] {
            let expected = expected.map(|(count, window)| (count, window.map(Duration::from_secs)));

            assert_eq!(limit(value.as_bytes()), expected, "{value}");
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
}
