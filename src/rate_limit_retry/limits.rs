//! Limits of the caller's own, and those that vendors document.

use std::{collections::HashMap, time::Duration};

use http::{Method, request::Parts};

use super::PartitionKey;

/// A limit that the layer keeps by itself, for servers that do not announce theirs or to use only a part of it.
///
/// Of this and what the server says, the stricter counts. A request counts from when it is sent until a period after
/// its end, so that the server never sees more in any period, however long requests are under way.
///
/// # Examples
///
/// ```
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::OwnLimit};
///
/// let layer = RateLimitRetryLayer::builder()
///     .limit(OwnLimit::per_minute(300).burst(20).at_once(10))
///     .build();
/// # drop(layer);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OwnLimit {
    pub(super) rate: Option<(u32, Duration)>,
    pub(super) burst: Option<u32>,
    pub(super) at_once: Option<u32>,
    /// What the server says takes its place.
    pub(super) until_told: bool,
}

impl OwnLimit {
    const UNLIMITED: Self = Self {
        rate: None,
        burst: None,
        at_once: None,
        until_told: false,
    };

    /// At most `requests` in any `period`; both at least 1 (request, millisecond).
    #[must_use]
    pub const fn per(requests: u32, period: Duration) -> Self {
        Self {
            rate: Some(some_per(requests, period)),
            ..Self::UNLIMITED
        }
    }

    /// At most so many in any second.
    #[must_use]
    pub const fn per_second(requests: u32) -> Self {
        Self::per(requests, Duration::from_secs(1))
    }

    /// At most so many in any minute.
    #[must_use]
    pub const fn per_minute(requests: u32) -> Self {
        Self::per(requests, Duration::from_secs(60))
    }

    /// At most so many in any hour.
    #[must_use]
    pub const fn per_hour(requests: u32) -> Self {
        Self::per(requests, Duration::from_secs(3600))
    }

    /// At most so many under way at the same time, at least 1, and no limit in time.
    #[must_use]
    pub const fn in_flight(requests: u32) -> Self {
        Self::UNLIMITED.at_once(requests)
    }

    /// Spaces requests evenly but for so many, at least 1, that may go together. Default: all of a period may.
    #[must_use]
    pub const fn burst(mut self, requests: u32) -> Self {
        self.burst = Some(requests);
        self
    }

    /// At most so many under way at the same time, at least 1. Default: no limit.
    #[must_use]
    pub const fn at_once(mut self, requests: u32) -> Self {
        self.at_once = Some(at_least_one(requests));
        self
    }

    /// A documented limit, which the server may know better.
    const fn until_told(mut self) -> Self {
        self.until_told = true;
        self
    }
}

/// A number of requests and a period that make a limit: at least one request, at least a millisecond.
pub(super) const fn some_per(requests: u32, period: Duration) -> (u32, Duration) {
    let period = if period.as_millis() == 0 {
        Duration::from_millis(1)
    } else {
        period
    };
    (at_least_one(requests), period)
}

pub(super) const fn at_least_one(requests: u32) -> u32 {
    if requests == 0 { 1 } else { requests }
}

/// The own limits of one layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnLimits {
    pub(super) each: Option<OwnLimit>,
    pub(super) of: HashMap<PartitionKey, OwnLimit>,
}

impl OwnLimits {
    pub(super) fn get(&self, key: &PartitionKey) -> Option<OwnLimit> {
        self.of.get(key).copied().or(self.each)
    }
}

/// The limits that a vendor documents: which requests share one, and how many may go. What the server's own headers say
/// about a limit takes its place.
///
/// # Examples
///
/// ```
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::Preset};
///
/// let layer = RateLimitRetryLayer::builder().preset(Preset::DIDIT).build();
/// # drop(layer);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    pub(super) keys: fn(&Parts) -> Vec<PartitionKey>,
    pub(super) limits: &'static [(&'static str, OwnLimit)],
}

impl Preset {
    /// Didit, as documented in November 2026: in any minute 300 GETs, 300 writes and 600 new sessions, each counted by
    /// itself; decisions and PDFs are counted as GETs, and 100 and 50 of them go in a minute.
    pub const DIDIT: Self = Self {
        keys: didit,
        limits: &[
            ("didit GET", OwnLimit::per_minute(300).until_told()),
            ("didit write", OwnLimit::per_minute(300).until_told()),
            ("didit new session", OwnLimit::per_minute(600).until_told()),
            ("didit decision", OwnLimit::per_minute(100).until_told()),
            ("didit PDF", OwnLimit::per_minute(50).until_told()),
        ],
    };
}

fn didit(parts: &Parts) -> Vec<PartitionKey> {
    let path = parts.uri.path().trim_end_matches('/');
    let read = parts.method == Method::GET || parts.method == Method::HEAD;
    let names: &[&str] = match path.rsplit('/').next() {
        Some("session") if parts.method == Method::POST => &["didit new session"],
        Some("decision") if read => &["didit decision", "didit GET"],
        Some("generate-pdf") if read => &["didit PDF", "didit GET"],
        _ if read => &["didit GET"],
        _ => &["didit write"],
    };
    names.iter().map(|name| PartitionKey::from(*name)).collect()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_request_to_didit_is_counted_where_didit_counts_it() {
        for (method, path, expected) in [
            ("GET", "/v3/session/1", "didit GET"),
            ("HEAD", "/v3/sessions/", "didit GET"),
            ("GET", "/v3/session/", "didit GET"),
            ("POST", "/v3/session/", "didit new session"),
            ("POST", "/v3/session", "didit new session"),
            (
                "GET",
                "/v3/session/1/decision/",
                "didit decision, didit GET",
            ),
            ("POST", "/v3/session/1/decision/", "didit write"),
            ("GET", "/v3/session/1/generate-pdf", "didit PDF, didit GET"),
            ("POST", "/v3/session/1/generate-pdf", "didit write"),
            ("DELETE", "/v3/session/1", "didit write"),
            ("PATCH", "/v3/session", "didit write"),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(())
                .unwrap();

            let keys = didit(&request.into_parts().0);

            let keys: Vec<_> = keys.iter().map(PartitionKey::as_str).collect();
            assert_eq!(keys.join(", "), expected, "{method} {path}");
        }
    }
}
