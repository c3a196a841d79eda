//! Any bytes in any field.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;
use tower_m2m::rate_limit_retry::headers::{ClockSkew, Vendor, read, read_with};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn no_field_value_panics_or_exceeds_the_maximum(
        status in 100..600u16,
        fields in prop::collection::vec((name(), value()), 0..8),
        now in any::<u32>(),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&value)) {
                headers.append(name, value);
            }
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.into());
        let status = StatusCode::from_u16(status).unwrap();
        let mut skew = ClockSkew::default();

        skew.observe(&headers, now);
        let _server_time = skew.server_time(now);
        for signals in [read(status, &headers, now), read_with(&Vendor::PRISJAKT, status, &headers, now)] {
            prop_assert!(signals.retry_after <= MAX_WAIT);
            for limit in &signals.limits {
                prop_assert!(limit.reset <= MAX_WAIT && limit.window <= MAX_WAIT);
                prop_assert!(limit.refill.is_none_or(|refill| refill.is_finite() && refill > 0.0));
            }
        }
    }

    #[test]
    fn epochs_are_relative_to_the_date_header(
        wait in 0..86_400 * 300u64,
        server in 1_500_000_000..3_000_000_000u64,
        clock in any::<u32>(),
    ) {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut headers = HeaderMap::new();
        headers.insert("date", httpdate::fmt_http_date(at(server)).parse().unwrap());
        headers.insert("x-ratelimit-remaining", HeaderValue::from_static("0"));
        headers.insert("x-ratelimit-reset", HeaderValue::from(server + wait));

        let signals = read(StatusCode::TOO_MANY_REQUESTS, &headers, at(clock.into()));

        prop_assert_eq!(signals.retry_after, Some(Duration::from_secs(wait)));
    }

    #[test]
    fn structured_quotas_round_trip(
        quotas in prop::collection::vec(("[ -!#-~&&[^\\\\]]{1,12}", 0..1_000_000u64, 0..1_000_000u64, 1..100_000u64), 1..4),
    ) {
        let list = |item: fn(&(String, u64, u64, u64)) -> String| {
            let items: Vec<String> = quotas.iter().map(item).collect();
            HeaderValue::from_str(&items.join(", ")).unwrap()
        };
        let mut names: Vec<&str> = quotas.iter().map(|quota| &*quota.0).collect();
        names.sort_unstable();
        names.dedup();
        prop_assume!(names.len() == quotas.len());
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit", list(|(name, _, remaining, seconds)| format!("\"{name}\";r={remaining};t={seconds}")));
        headers.insert("ratelimit-policy", list(|(name, quota, _, seconds)| format!("\"{name}\";q={quota};w={seconds}")));

        let limits = read(StatusCode::OK, &headers, SystemTime::UNIX_EPOCH).limits;

        let read: Vec<_> = limits
            .into_iter()
            .map(|limit| (limit.name.unwrap(), limit.limit.unwrap(), limit.remaining.unwrap(), limit.reset.unwrap().as_secs()))
            .collect();
        prop_assert_eq!(read, quotas);
    }
}

/// Names that mean something, alone and put together, and any others.
pub(crate) fn name() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "age",
        "date",
        "retry-after",
        "retry-after-ms",
        "x-amz-retry-after",
        "grpc-retry-pushback-ms",
        "ratelimit",
        "ratelimit-policy",
        "x-should-retry",
        "x-envoy-ratelimited",
        "x-sentry-rate-limits",
        "sforce-limit-info",
        "x-shopify-shop-api-call-limit",
        "x-amzn-ratelimit-limit",
        "x-app-rate-limit",
        "x-app-rate-limit-count",
        "x-ratelimit",
        "x-rate-limit-reset",
        "x-ratelimit-global",
        "x-ratelimit-fillrate",
    ];
    let families = "(x-|acme-|)(ratelimit|rate-limit)-(daily-|tokens-|)(limit|remaining|used|reset|interval-ms|resource|name|window|policy|count)(-requests|)";
    prop_oneof![
        prop::sample::select(KNOWN).prop_map(str::to_owned),
        families,
        "[a-z-]{0,6}(limit|retry|ratelimit)[a-z-]{0,12}",
    ]
}

/// Bytes of any kind, and those that come near to a meaning.
pub(crate) fn value() -> impl Strategy<Value = Vec<u8>> {
    let texts = prop_oneof![
        r#"[-0-9.,;=w" \\:/]{0,30}"#,
        r#"(limit|remaining|reset|total|"a"|b|100|-1|;r=|;q=|;t=|;w=|;pk=:|=|, |[0-9]{1,20}){0,8}"#,
        "([0-9]{1,20}(\\.[0-9]{0,12})?(ns|us|ms|s|m|h|d)?){0,4}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:?[0-9]{2})?",
        "(Mon|Tue) (Feb|Sep) [0-9]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT[+-][0-9]{4}",
        "(Mon|Tue), [0-9]{2} (Feb|Sep) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
        r#"\{"(limit|period|until|remaining)": ?[-0-9e."]{0,12}\}"#,
    ];
    prop_oneof![
        any::<Vec<u8>>(),
        texts.prop_map(String::into_bytes),
        any::<u64>().prop_map(|number| number.to_string().into_bytes()),
    ]
}

const MAX_WAIT: Option<Duration> = Some(Duration::from_secs(315_360_000));
