//! What reading a response costs in memory.

use std::hint::black_box;

use http::StatusCode;
use tower_m2m::rate_limit_retry::headers::read;

use super::{headers, now};

#[test]
fn responses_without_limits_and_bare_waits_allocate_nothing() {
    for (status, lines) in [
        (200, &["Content-Type: text/html", "Server: nginx"][..]),
        (500, &[]),
        (
            429,
            &["Retry-After: 120", "Date: Mon, 21 Sep 2026 14:13:20 GMT"],
        ),
        (503, &["x-should-retry: false", "retry-after-ms: 5"]),
    ] {
        let headers = headers(lines);
        let status = StatusCode::from_u16(status).unwrap();

        let counted = allocation_counter::measure(|| {
            black_box(read(status, black_box(&headers), now()));
        });

        assert_eq!(counted.count_total, 0, "{lines:?}");
    }
}
