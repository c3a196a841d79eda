//! One quota, as far as a response describes it.

use std::time::Duration;

use http::StatusCode;

use super::{name::Dimension, words::parts};

/// One quota, as far as the response describes it.
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
/// let signals = read(StatusCode::OK, &headers, SystemTime::now());
///
/// let limit: &Limit = &signals.limits[0];
/// assert!(limit.is_exhausted());
/// assert_eq!((limit.limit, limit.reset), (Some(300), Some(Duration::from_secs(30))));
/// # Ok::<(), http::header::InvalidHeaderName>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Limit {
    /// What the server calls it: the policy (`"burst"`), the resource (`core`), or what is counted (`tokens`, `daily`).
    pub name: Option<String>,
    /// What is counted. Only [`Unit::Requests`] says how many more requests may be sent.
    pub unit: Unit,
    /// How much the quota allows in a window; of a token bucket, how much it holds.
    pub limit: Option<u64>,
    /// How much is left; rounded down.
    pub remaining: Option<u64>,
    /// How long after the response the quota is replenished, at most ten years; zero if that is over.
    pub reset: Option<Duration>,
    /// The length of the window.
    pub window: Option<Duration>,
    /// How much comes back in a second, if it comes back by and by.
    pub refill: Option<f64>,
    /// The part of the server's quota that the request was counted in (`pk`, IETF draft 08 and later).
    pub partition_key: Option<Vec<u8>>,
}

/// What a quota counts.
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
/// let signals = read(StatusCode::OK, &headers, SystemTime::now());
///
/// // Tokens of a model, which says nothing about how many requests may go.
/// assert_eq!(signals.limits[0].unit, Unit::Other);
/// # Ok::<(), http::header::InvalidHeaderName>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Unit {
    /// Requests in a time. The default, and all that servers count who do not say what they count.
    #[default]
    Requests,
    /// Requests that are under way at the same time.
    ConcurrentRequests,
    /// Bytes of content.
    ContentBytes,
    /// Something else: tokens of a model, points of complexity, a category of events.
    Other,
}

impl Limit {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.remaining == Some(0)
    }

    /// Cuts a name that is longer than [`LONGEST_NAME`].
    pub(super) fn shorten_name(&mut self) {
        if let Some(name) = &mut self.name
            && name.len() > LONGEST_NAME
        {
            let mut ends = (0..=LONGEST_NAME).rev();
            let end = ends.find(|at| name.is_char_boundary(*at));
            name.truncate(end.unwrap_or_default());
        }
    }

    /// Whether no request is left. Of what else is counted, a request may cost nothing.
    pub(super) fn is_out_of_requests(&self) -> bool {
        self.is_exhausted() && self.unit == Unit::Requests
    }

    /// Whether this is how a server says that it has no quota: a limit of zero in an answer that is no refusal of the
    /// quota's. What remains of it is nothing all the same, although every request is accepted.
    pub(super) fn is_none_at_all(&self, status: StatusCode) -> bool {
        let refused = matches!(status.as_u16(), 418 | 420 | 429 | 430 | 529);
        !refused && self.limit == Some(0) && self.remaining.unwrap_or(0) == 0
    }

    /// Whether anything is known that a client can act upon.
    pub(super) fn says_something(&self) -> bool {
        self.limit.is_some()
            || self.remaining.is_some()
            || self.reset.is_some()
            || self.refill.is_some()
    }
}

impl Unit {
    /// The units of the IETF drafts 08 to 10 (`qu`); others are known to the server only.
    pub(super) fn of_policy(unit: &str) -> Self {
        match unit {
            "requests" => Self::Requests,
            "concurrent-requests" => Self::ConcurrentRequests,
            "content-bytes" => Self::ContentBytes,
            _ => Self::Other,
        }
    }

    /// What a field counts by the words in its name: `x-ratelimit-remaining-tokens`.
    pub(super) fn of_dimension(dimension: &Dimension<'_>) -> Self {
        let mut before = "";
        let mut words = dimension.words().flat_map(parts);
        let found = words.find_map(|word| {
            let unit = Self::of_word(word).filter(|_| {
                // Requests with one credential.
                !(word.starts_with("token") && CREDENTIALS.contains(&before))
            });
            before = word;
            unit
        });
        found.unwrap_or_default()
    }

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

/// Maximum length of the name of a quota.
const LONGEST_NAME: usize = 128;
/// What a token is of which a quota counts the requests, not the tokens.
const CREDENTIALS: [&str; 10] = [
    "api", "auth", "access", "bearer", "oauth", "user", "app", "client", "personal", "session",
];
