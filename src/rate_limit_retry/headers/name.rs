//! What a header field is about, by its name alone.

use super::Field;

/// A field of the rate-limit families: `x-ratelimit-remaining-tokens` is how many *tokens* remain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Name<'a> {
    /// Up to and with `ratelimit`: fields of one family describe each other.
    pub(super) family: &'a str,
    /// What is counted, or how the server calls the quota; empty if the family has but one.
    pub(super) dimension: &'a str,
    pub(super) field: Field,
}

impl<'a> Name<'a> {
    /// `name` in lower case; `None` if it belongs to no family.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let end = MARKERS
            .iter()
            .find_map(|marker| Some(name.find(marker)? + marker.len()))?;
        let (family, rest) = name.split_at(end);
        let rest = match rest.strip_prefix('-') {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            // `ratelimited`
            None => return None,
        };
        let (dimension, field) = field_of(rest).unwrap_or((rest, Field::Whole));
        Some(Self {
            family,
            dimension,
            field,
        })
    }
}

/// Splits what a field says from what it says it of: `limit-requests`, `requests-limit`, `concurrentlimit`.
pub(super) fn field_of(words: &str) -> Option<(&str, Field)> {
    let last = FIELDS.iter().find_map(|(word, field)| {
        let dimension = words.strip_suffix(word)?;
        Some((dimension.trim_end_matches(['-', '_']), *field))
    });
    last.or_else(|| {
        FIELDS.iter().find_map(|(word, field)| {
            let dimension = words.strip_prefix(word)?;
            Some((dimension.strip_prefix(['-', '_'])?, *field))
        })
    })
}

/// The seconds of the window that a dimension names: `daily`, `per-minute`.
pub(super) fn window_of(dimension: &str) -> Option<u64> {
    dimension.split(['-', '_']).find_map(|word| match word {
        "second" | "secondly" => Some(1),
        "minute" | "minutely" => Some(60),
        "hour" | "hourly" => Some(3600),
        "day" | "daily" => Some(86_400),
        "week" | "weekly" => Some(604_800),
        _ => None,
    })
}

const MARKERS: [&str; 2] = ["ratelimit", "rate-limit"];

/// Longer words before those that they end with.
const FIELDS: [(&str, Field); 37] = [
    ("retry-after", Field::RetryAfter),
    ("reset-after", Field::Reset),
    ("reset-time", Field::Reset),
    ("resettime", Field::Reset),
    ("reset-at", Field::Reset),
    ("reset-in", Field::Reset),
    ("reset-seconds", Field::Reset),
    ("reset-ms", Field::ResetMillis),
    ("resets", Field::Reset),
    ("reset", Field::Reset),
    ("next", Field::Reset),
    ("until", Field::Reset),
    ("limit", Field::Limit),
    ("max", Field::Limit),
    ("quota", Field::Limit),
    ("total", Field::Limit),
    ("remaining", Field::Remaining),
    ("available", Field::Remaining),
    ("left", Field::Remaining),
    ("used", Field::Used),
    ("usage", Field::Used),
    ("observed", Field::Used),
    ("count", Field::Used),
    ("interval-milliseconds", Field::WindowMillis),
    ("interval-ms", Field::WindowMillis),
    ("window-ms", Field::WindowMillis),
    ("interval-seconds", Field::Window),
    ("window-seconds", Field::Window),
    ("interval", Field::Window),
    ("window", Field::Window),
    ("period", Field::Window),
    ("fillrate", Field::Refill),
    ("fill-rate", Field::Refill),
    ("resource", Field::Name),
    ("bucket", Field::Name),
    ("policy", Field::Policy),
    ("name", Field::Name),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_family_a_dimension_and_a_field() {
        for (name, family, dimension, field) in [
            ("ratelimit", "ratelimit", "", Field::Whole),
            ("ratelimit-policy", "ratelimit", "", Field::Policy),
            ("x-rate-limit-reset", "x-rate-limit", "", Field::Reset),
            (
                "x-ratelimit-limit-requests",
                "x-ratelimit",
                "requests",
                Field::Limit,
            ),
            (
                "x-ratelimit-requests-limit",
                "x-ratelimit",
                "requests",
                Field::Limit,
            ),
            ("x-ratelimit-reset-after", "x-ratelimit", "", Field::Reset),
            (
                "x-ratelimit-retry-after",
                "x-ratelimit",
                "",
                Field::RetryAfter,
            ),
            (
                "anthropic-ratelimit-input-tokens-reset",
                "anthropic-ratelimit",
                "input-tokens",
                Field::Reset,
            ),
            (
                "x-sentry-rate-limit-concurrentlimit",
                "x-sentry-rate-limit",
                "concurrent",
                Field::Limit,
            ),
            (
                "x-hubspot-ratelimit-daily",
                "x-hubspot-ratelimit",
                "daily",
                Field::Whole,
            ),
            (
                "x-hubspot-ratelimit-interval-milliseconds",
                "x-hubspot-ratelimit",
                "",
                Field::WindowMillis,
            ),
        ] {
            let expected = Name {
                family,
                dimension,
                field,
            };

            assert_eq!(Name::parse(name), Some(expected), "{name}");
        }
        for name in [
            "x-envoy-ratelimited",
            "retry-after",
            "x-limit",
            "ratelimiter",
        ] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }
}
