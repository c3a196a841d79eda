//! What an intermediary says of itself, and how far a request may go (RFC 9110 §7.6.2, §7.6.3).

use http::{
    HeaderMap, HeaderValue, Method, Version,
    header::{MAX_FORWARDS, VIA},
};

/// Adds the gateway to the intermediaries of a message that arrived in `version`.
pub(crate) fn add(headers: &mut HeaderMap, version: Version) {
    let own = match version {
        Version::HTTP_09 => "0.9 gateway",
        Version::HTTP_10 => "1.0 gateway",
        Version::HTTP_2 => "2 gateway",
        Version::HTTP_3 => "3 gateway",
        _ => "1.1 gateway",
    };
    headers.append(VIA, HeaderValue::from_static(own));
}

/// Counts the gateway as one step of a request's way; `false` if it may go no further.
pub(crate) fn may_go_on(method: &Method, headers: &mut HeaderMap) -> bool {
    // For other methods the field says nothing.
    if ![Method::OPTIONS, Method::TRACE].contains(method) {
        return true;
    }
    let value = headers
        .get(MAX_FORWARDS)
        .and_then(|value| value.to_str().ok());
    let Some(left) = value.and_then(|text| text.parse::<u64>().ok()) else {
        return true;
    };
    if left > 0 {
        headers.insert(MAX_FORWARDS, (left - 1).into());
    }
    left > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_forwards_is_decremented_to_0() {
        for (method, value, goes_on, left) in [
            (Method::OPTIONS, "0", false, "0"),
            (Method::TRACE, "0", false, "0"),
            (Method::OPTIONS, "10", true, "9"),
            (Method::OPTIONS, "x", true, "x"),
            (Method::GET, "0", true, "0"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(MAX_FORWARDS, value.parse().unwrap());

            assert_eq!(
                may_go_on(&method, &mut headers),
                goes_on,
                "{method} {value}"
            );
            assert_eq!(headers[MAX_FORWARDS], left);
        }
    }

    #[test]
    fn the_gateway_is_appended_to_via() {
        let mut headers = HeaderMap::new();
        headers.insert(VIA, "1.0 other".parse().unwrap());

        add(&mut headers, Version::HTTP_2);

        let all: Vec<_> = headers.get_all(VIA).iter().collect();
        assert_eq!(all, ["1.0 other", "2 gateway"]);
    }
}
