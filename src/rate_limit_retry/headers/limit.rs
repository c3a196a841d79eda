//! A quota, as described by a response.
//!
//! What a response contains neither in its fields nor in their names is `None`. Two values are derived: a missing limit
//! is the sum of what remains and what is used, and a missing remaining count is the limit minus what is used.

use std::time::Duration;

use http::StatusCode;

use super::{name::Dimension, words::parts};

/// A quota, as described by a response.
///
/// `Default` describes nothing. A [`HeaderProfile`](super::HeaderProfile) completes what the vendor's documentation
/// adds, such as the window.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use tower_m2m::rate_limit_retry::headers::{Limit, read};
///
/// let headers = HeaderMap::from_iter([
///     ("x-ratelimit-limit".parse()?, HeaderValue::from_static("300")),
///     ("x-ratelimit-remaining".parse()?, HeaderValue::from_static("0")),
///     ("x-ratelimit-reset".parse()?, HeaderValue::from_static("30")),
/// ]);
///
/// let info = read(StatusCode::OK, &headers, SystemTime::now());
///
/// let limit: &Limit = &info.limits[0];
/// assert!(limit.is_exhausted());
/// assert_eq!(limit.limit, Some(300));
/// assert_eq!(limit.reset, Some(Duration::from_secs(30)));
/// # Ok::<(), http::header::InvalidHeaderName>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Limit {
    /// The server's name for the quota: the policy (`"burst"`), the resource (`core`), or what is counted (`tokens`,
    /// `daily`).
    pub name: Option<String>,
    /// What is counted. With the name, it determines which amount of a request's
    /// [`Cost`](crate::rate_limit_retry::Cost) counts against the quota. [`Unit::ConcurrentRequests`] limits how many
    /// requests are in flight.
    pub unit: Unit,
    /// Number allowed per window; for a token bucket, its capacity.
    pub limit: Option<u64>,
    /// Number that remains, rounded down. Requests that were in flight when the response was sent may have reduced it.
    pub remaining: Option<u64>,
    /// Time from the response until the quota is reset, or, for some quotas that refill, until it is full: at most ten
    /// years, zero if it is over.
    pub reset: Option<Duration>,
    /// Length of the window. Not necessarily aligned to the clock, and not longer than ten years.
    pub window: Option<Duration>,
    /// Number that is refilled per second, for a quota that refills continuously. Units become available one by one,
    /// before the reset.
    pub refill: Option<f64>,
    /// The server's partition that the request was counted in (`pk`, IETF draft 08 and later).
    pub partition_key: Option<Vec<u8>>,
}

/// What a quota counts: the unit `qu` of the IETF drafts, or what the words of the field name mean (`-tokens`,
/// `-bytes`).
///
/// # Examples
///
/// ```
/// use std::time::SystemTime;
///
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use tower_m2m::rate_limit_retry::headers::{Unit, read};
///
/// let name = "x-ratelimit-remaining-tokens".parse()?;
/// let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("14000"))]);
///
/// let info = read(StatusCode::OK, &headers, SystemTime::now());
///
/// // Tokens of a model: a request may cost any number of them.
/// assert_eq!(info.limits[0].unit, Unit::Other);
/// # Ok::<(), http::header::InvalidHeaderName>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Unit {
    /// Requests per window. The default, which also applies if the server does not specify a unit.
    #[default]
    Requests,
    /// Requests in flight at the same time.
    ConcurrentRequests,
    /// Bytes of content.
    ContentBytes,
    /// Any other unit: tokens of a model, points of complexity, a category of events.
    Other,
}

impl Limit {
    /// Returns whether nothing remains. `false` if that is unknown.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.remaining == Some(0)
    }

    /// Truncates the name to [`MAX_NAME_LEN`] bytes, at a character boundary.
    pub(crate) fn truncate_name(&mut self) {
        if let Some(name) = &mut self.name
            && name.len() > MAX_NAME_LEN
        {
            let mut ends = (0..=MAX_NAME_LEN).rev();
            let end = ends.find(|at| name.is_char_boundary(*at));
            name.truncate(end.unwrap_or_default());
        }
    }

    /// Returns whether no request remains. With other units, a request may cost nothing.
    pub(super) fn is_out_of_requests(&self) -> bool {
        self.is_exhausted() && self.unit == Unit::Requests
    }

    /// Returns whether the server reports that it has no quota: a limit of zero in a response that is not a
    /// throttling rejection. The remaining count is then zero as well, although every request is accepted.
    pub(super) fn means_unlimited(&self, status: StatusCode) -> bool {
        // In a throttling rejection, a limit of zero is real.
        let throttled = matches!(status.as_u16(), 418 | 420 | 429 | 430 | 529);
        !throttled && self.limit == Some(0) && self.remaining.unwrap_or(0) == 0
    }

    /// Returns whether the quota has a value that a client can act on.
    pub(super) fn is_actionable(&self) -> bool {
        self.limit.is_some()
            || self.remaining.is_some()
            || self.reset.is_some()
            || self.refill.is_some()
    }
}

impl Unit {
    /// Returns the unit for a `qu` of IETF drafts 08 to 10. Other values are specific to the server.
    pub(super) fn of_policy(unit: &str) -> Self {
        match unit {
            "requests" => Self::Requests,
            "concurrent-requests" => Self::ConcurrentRequests,
            "content-bytes" => Self::ContentBytes,
            _ => Self::Other,
        }
    }

    /// Returns the unit for the words of a field name: `x-ratelimit-remaining-tokens`.
    pub(super) fn of_dimension(dimension: &Dimension<'_>) -> Self {
        let mut before = "";
        let mut words = dimension.words().flat_map(parts);
        let found = words.find_map(|word| {
            let unit = Self::of_word(word).filter(|_| {
                // A token after such a word is a credential; the quota counts its requests.
                !(word.starts_with("token") && CREDENTIALS.contains(&before))
            });
            before = word;
            unit
        });
        found.unwrap_or_default()
    }

    /// Returns the unit for a word, if it names one.
    fn of_word(word: &str) -> Option<Self> {
        if word.starts_with("concurren") {
            return Some(Self::ConcurrentRequests);
        }
        if word.contains("byte") {
            return Some(Self::ContentBytes);
        }
        Some(match word {
            "parallel" | "simultaneous" | "inflight" => Self::ConcurrentRequests,
            "bandwidth" | "kb" | "mb" | "gb" => Self::ContentBytes,
            "token" | "complexity" | "cost" | "costs" | "point" | "points" | "weight"
            | "weights" | "credit" | "credits" | "unit" | "units" | "character" | "characters"
            | "chars" | "audio" | "conn" | "connections" => Self::Other,
            _ if word.ends_with("tokens") || word.ends_with("units") => Self::Other,
            _ => return None,
        })
    }
}

/// Maximum length of the name of a quota, in bytes.
const MAX_NAME_LEN: usize = 128;
/// Words before `token` that make it a credential instead of a unit.
const CREDENTIALS: [&str; 10] = [
    "api", "auth", "access", "bearer", "oauth", "user", "app", "client", "personal", "session",
];
