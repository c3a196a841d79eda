use super::*;

#[test]
fn a_name_splits_into_family_dimension_and_field() {
    for (name, family, dimension, field) in [
        ("ratelimit", "ratelimit", "", Field::Combined),
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
        (
            "x-ratelimit-requests-left",
            "x-ratelimit",
            "requests",
            Field::Remaining,
        ),
        (
            "x-ratelimit-requests-quota",
            "x-ratelimit",
            "requests",
            Field::Limit,
        ),
        (
            "x-ratelimit-requests-allowed",
            "x-ratelimit",
            "requests",
            Field::Limit,
        ),
        (
            "x-ratelimit-available-requests",
            "x-ratelimit",
            "requests",
            Field::Remaining,
        ),
        (
            "x-ratelimit-limit-remaining",
            "x-ratelimit",
            "",
            Field::Remaining,
        ),
        (
            "x-ratelimit-requests-limit-remaining",
            "x-ratelimit",
            "requests",
            Field::Remaining,
        ),
        (
            "x-ratelimit-tokens-remaining-minute",
            "x-ratelimit",
            "tokens-minute",
            Field::Remaining,
        ),
        ("x-ratelimit-reset-after", "x-ratelimit", "", Field::Reset),
        ("x-ratelimit-time-reset-ms", "x-ratelimit", "", Field::Reset),
        (
            "x-ratelimit-time-remaining",
            "x-ratelimit",
            "",
            Field::Reset,
        ),
        ("x-ratelimit-resettime", "x-ratelimit", "", Field::Reset),
        ("x-ratelimit-expiry", "x-ratelimit", "", Field::Reset),
        ("x-ratelimit-expires-at", "x-ratelimit", "", Field::Reset),
        ("x-ratelimit-window-size", "x-ratelimit", "", Field::Window),
        (
            "x-ratelimit-window-limit",
            "x-ratelimit",
            "window",
            Field::Limit,
        ),
        ("x-ratelimit-limit-window", "x-ratelimit", "", Field::Window),
        (
            "x-ratelimit-burst-capacity",
            "x-ratelimit",
            "",
            Field::Limit,
        ),
        (
            "x-ratelimit-burst-limit",
            "x-ratelimit",
            "burst",
            Field::Limit,
        ),
        (
            "x-ratelimit-replenish-rate",
            "x-ratelimit",
            "",
            Field::RefillAmount,
        ),
        (
            "x-ratelimit-retry-after",
            "x-ratelimit",
            "",
            Field::RetryAfter,
        ),
        (
            "x_rate_limit_remaining",
            "x_rate_limit",
            "",
            Field::Remaining,
        ),
        ("ratelimit-dailylimit", "ratelimit", "daily", Field::Limit),
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
            Field::Combined,
        ),
        (
            "x-hubspot-ratelimit-interval-milliseconds",
            "x-hubspot-ratelimit",
            "",
            Field::Window,
        ),
        (
            "x-ratelimit-tokens-query-cost",
            "x-ratelimit",
            "tokens-query-cost",
            Field::Combined,
        ),
        (
            "x-app-limit-24hour-remaining",
            "",
            "app-24hour",
            Field::Remaining,
        ),
        ("x-app-limit-24hour-limit", "", "app-24hour", Field::Limit),
        ("x-bapi-limit", "", "bapi", Field::Limit),
        ("x-bapi-limit-status", "", "bapi", Field::Remaining),
        ("x-bapi-limit-reset-timestamp", "", "bapi", Field::Reset),
        ("x-apiquota-remaining", "", "api", Field::Remaining),
        ("x-remaining-this-second", "", "second", Field::Remaining),
        ("x-limit-per-second", "", "second", Field::Limit),
        ("x-remaining-today", "", "day", Field::Remaining),
        ("x-daylimit-remaining", "", "day", Field::Remaining),
    ] {
        let found = Name::parse(name).unwrap();

        let read = (
            found.family,
            found.meaning.dimension.to_string(),
            found.meaning.field,
        );
        assert_eq!(read, (family, dimension.to_owned(), field), "{name}");
    }
    for name in [
        "x-envoy-ratelimited",
        "retry-after",
        "ratelimiter",
        "x-page-limit",
    ] {
        assert_eq!(Name::parse(name), None, "{name}");
    }
}

#[test]
fn time_units_are_words_of_the_name() {
    for (name, scale) in [
        ("x-ratelimit-reset", None),
        ("x-ratelimit-reset-ms", Some(1_000_000)),
        ("x-ratelimit-reset-after-millis", Some(1_000_000)),
        ("x-ratelimit-ms-until-reset", Some(1_000_000)),
        ("x-ratelimit-window-seconds", Some(1_000_000_000)),
        ("x-ratelimit-reset-minutes", Some(60_000_000_000)),
        ("x-ratelimit-reset-minute", None),
        ("x-ratelimit-remaining-ms", Some(1_000_000)),
    ] {
        assert_eq!(Name::parse(name).unwrap().meaning.scale, scale, "{name}");
    }
    for (name, scale) in [
        ("retry-after", Some(None)),
        ("retry-after-ms", Some(Some(1_000_000))),
        ("x-ms-retry-after-ms", Some(Some(1_000_000))),
        ("x-ms-retry-after", Some(None)),
        (
            "x-rate-limit-retry-after-milliseconds",
            Some(Some(1_000_000)),
        ),
        ("retry-after-seconds", Some(Some(1_000_000_000))),
        ("retry-after-long", Some(None)),
        ("writes-retryafter", Some(None)),
        ("x-retry-in", Some(None)),
        ("x-retry-count", None),
        ("x-retry-policy", None),
    ] {
        assert_eq!(
            Meaning::parse_wait(name).map(|wait| wait.scale),
            scale,
            "{name}"
        );
    }
}
