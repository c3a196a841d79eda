//! Responses of a proxy that has shed a request because of overload, and reports it in a field of its own.

use http::{HeaderMap, StatusCode};

/// Returns whether a proxy has dropped the request before it was processed, because of overload or a rate limit.
///
/// The request may then be sent again whatever its method, like after a 429. The value is compared without case and
/// without surrounding spaces.
///
/// Envoy marks each rejection of its rate limit service with `x-envoy-ratelimited`, with any status that it is
/// configured to send, and each rejection of its overload manager and of an overloaded upstream with
/// `x-envoy-overloaded`.
pub(super) fn is_shed(status: StatusCode, headers: &HeaderMap) -> bool {
    let has = |name: &str| {
        let value = headers.get(name).map(|value| value.as_bytes().trim_ascii());
        value.is_some_and(|value| value.eq_ignore_ascii_case(b"true"))
    };
    let overloaded = status == StatusCode::SERVICE_UNAVAILABLE && has("x-envoy-overloaded");
    let error = status.is_client_error() || status.is_server_error();
    overloaded || error && has("x-envoy-ratelimited")
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn envoy_rejections_are_recognized_by_headers() {
        for (status, name, value, expected) in [
            (503, "x-envoy-overloaded", "true", true),
            (503, "x-envoy-overloaded", "false", false),
            (502, "x-envoy-overloaded", "true", false),
            (200, "x-envoy-overloaded", "true", false),
            (429, "x-envoy-ratelimited", "true", true),
            (503, "x-envoy-ratelimited", " True ", true),
            (429, "x-envoy-ratelimited", "", false),
            (200, "x-envoy-ratelimited", "true", false),
            (503, "x-envoy-upstream-service-time", "true", false),
        ] {
            let name = HeaderName::from_static(name);
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            let status = StatusCode::from_u16(status).unwrap();

            assert_eq!(is_shed(status, &headers), expected, "{status} {headers:?}");
        }
    }
}
