//! Limits that the user configures, and presets of documented limits.
//!
//! This module has only the settings. `quota::local_limit` enforces them, for each partition.

use std::{collections::HashMap, time::Duration};

use http::{Method, request::Parts};

use super::PartitionKey;

/// A limit that the layer enforces, for servers that do not announce theirs or to use only a part of it.
///
/// If the server announces a limit as well, the stricter one applies. A request counts from the time it is sent until
/// one period after its end. The server therefore never sees more requests in any period, no matter how long requests
/// are in flight. The price is a rate slightly below the limit if responses take a considerable part of the period.
///
/// Requests beyond the limit wait, as during a hold. Retries count like other requests; requests that were not sent do
/// not count. The limit applies to one layer in one process, for each partition.
///
/// | server | limit |
/// |---|---|
/// | documents 300 requests per minute | `per_minute(300)` |
/// | the same, and rejects peaks | `per_minute(300).burst(20)` |
/// | documents 10 requests at the same time | `in_flight(10)` |
/// | documents both | `per_minute(300).max_concurrency(10)` |
/// | is shared with other programs | a part of the limit for each of them |
///
/// # Examples
///
/// ```
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::LocalLimit};
///
/// let layer = RateLimitRetryLayer::builder()
///     .limit(LocalLimit::per_minute(300).burst(20).max_concurrency(10))
///     .build();
/// # drop(layer);
/// ```
#[doc(alias("requests per second", "token bucket"))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalLimit {
    /// Maximum number of requests per period.
    pub(super) rate: Option<(u32, Duration)>,
    /// Maximum number of requests that may be sent together; `None` for all of a period.
    pub(super) burst: Option<u32>,
    /// Maximum number of requests in flight.
    pub(super) max_concurrency: Option<u32>,
    /// Whether the limit that the server announces replaces this one.
    pub(super) until_announced: bool,
}

impl LocalLimit {
    /// No limit.
    const UNLIMITED: Self = Self {
        rate: None,
        burst: None,
        max_concurrency: None,
        until_announced: false,
    };

    /// Allows at most `requests` in any `period`. Minimum: 1 request, 1 ms.
    #[must_use]
    pub const fn per(requests: u32, period: Duration) -> Self {
        Self {
            rate: Some(clamp_rate(requests, period)),
            ..Self::UNLIMITED
        }
    }

    /// Allows at most `requests` (at least 1) in any second.
    #[must_use]
    pub const fn per_second(requests: u32) -> Self {
        Self::per(requests, Duration::from_secs(1))
    }

    /// Allows at most `requests` (at least 1) in any minute.
    #[must_use]
    pub const fn per_minute(requests: u32) -> Self {
        Self::per(requests, Duration::from_secs(60))
    }

    /// Allows at most `requests` (at least 1) in any hour.
    #[must_use]
    pub const fn per_hour(requests: u32) -> Self {
        Self::per(requests, Duration::from_secs(3600))
    }

    /// Allows at most `requests` (at least 1) in flight at the same time, at any rate.
    #[must_use]
    pub const fn in_flight(requests: u32) -> Self {
        Self::UNLIMITED.max_concurrency(requests)
    }

    /// Spaces requests evenly, allowing bursts of up to `requests` (at least 1). Default: the requests of a whole
    /// period. Has no effect without a rate, as in [`in_flight`](Self::in_flight).
    ///
    /// `per_minute(300).burst(20)` sends 20 requests at once after a pause, and then one every 200 ms.
    #[must_use]
    pub const fn burst(mut self, requests: u32) -> Self {
        self.burst = Some(requests);
        self
    }

    /// Allows at most `requests` (at least 1) in flight at the same time. Default: no limit.
    #[must_use]
    pub const fn max_concurrency(mut self, requests: u32) -> Self {
        self.max_concurrency = Some(at_least_one(requests));
        self
    }

    /// Marks a documented limit, which the server's announced limit replaces.
    const fn until_announced(mut self) -> Self {
        self.until_announced = true;
        self
    }
}

/// Raises the number of requests to at least 1 and the period to at least 1 ms.
pub(super) const fn clamp_rate(requests: u32, period: Duration) -> (u32, Duration) {
    // `Ord::max` is not usable in a `const fn`.
    let period = if period.as_millis() == 0 {
        Duration::from_millis(1)
    } else {
        period
    };
    (at_least_one(requests), period)
}

/// Returns `requests`, or 1 if it is 0.
pub(super) const fn at_least_one(requests: u32) -> u32 {
    if requests == 0 { 1 } else { requests }
}

/// The configured limits of one layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalLimits {
    /// Limit of each partition that has no entry in `by_partition`.
    pub(super) default: Option<LocalLimit>,
    /// Limits of individual partitions. They replace `default`, and are not combined with it.
    pub(super) by_partition: HashMap<PartitionKey, LocalLimit>,
}

impl LocalLimits {
    /// Returns the limit of a partition.
    pub(super) fn get(&self, key: &PartitionKey) -> Option<LocalLimit> {
        self.by_partition.get(key).copied().or(self.default)
    }
}

/// The documented limits of one vendor: which requests share a limit, and how high it is. Limits that the server
/// announces in its responses replace the documented ones.
///
/// Set it with [`preset`](super::RateLimitRetryLayerBuilder::preset). A preset defines the partitions, too: use a layer
/// for this vendor only. [`limit_for`](super::RateLimitRetryLayerBuilder::limit_for), called after `preset`, changes a
/// single limit, for example for a plan with a higher one.
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
    /// Derives the partition keys of a request.
    pub(super) keys: fn(&Parts) -> Vec<PartitionKey>,
    /// Limits by the name of the partition.
    pub(super) limits: &'static [(&'static str, LocalLimit)],
}

impl Preset {
    /// Didit, as documented in November 2026: 300 GETs, 300 writes and 600 new sessions in any minute, each counted
    /// separately.
    ///
    /// Decisions and PDFs are counted as GETs, and are also limited to 100 and 50 in any minute.
    pub const DIDIT: Self = Self {
        keys: didit,
        limits: &[
            ("didit GET", LocalLimit::per_minute(300).until_announced()),
            ("didit write", LocalLimit::per_minute(300).until_announced()),
            (
                "didit new session",
                LocalLimit::per_minute(600).until_announced(),
            ),
            (
                "didit decision",
                LocalLimit::per_minute(100).until_announced(),
            ),
            ("didit PDF", LocalLimit::per_minute(50).until_announced()),
        ],
    };
}

/// Returns the partition keys of a request to Didit.
fn didit(parts: &Parts) -> Vec<PartitionKey> {
    // A trailing slash does not change the kind of a request.
    let path = parts.uri.path().trim_end_matches('/');
    // HEAD counts as GET.
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
    fn didit_requests_map_to_didit_partitions() {
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
