//! A server that announces its quota in every response, as a service under the layers; and its origins.
//!
//! Each origin has a quota of its own. `remaining` falls by one with each answer, and the reset stays where it is. The
//! next window begins when half of one is used, so that no request ever has to wait. The bare service formats the same
//! fields, so that figures above the bare service contain none of it.

use std::{
    io::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The fields in which a quota is announced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fields {
    /// Didit's three: `X-RateLimit-Limit`, `-Remaining` and `-Reset`, an epoch in seconds.
    Didit,
    /// GitHub's five: the same three, `-Used` and `-Resource`.
    GitHub,
    /// `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10.
    Draft10,
    /// Didit's three and a `Date`.
    Dated,
}

impl Fields {
    /// The three that have goals.
    pub(crate) const SETS: [Self; 3] = [Self::Didit, Self::GitHub, Self::Draft10];

    /// What tables say about it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Didit => "Didit's three fields",
            Self::GitHub => "GitHub's five fields",
            Self::Draft10 => "the two fields of the IETF's draft 10",
            Self::Dated => "Didit's three fields and a Date",
        }
    }

    /// Its name on command lines and in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Didit => "didit",
            Self::GitHub => "github",
            Self::Draft10 => "draft_10",
            Self::Dated => "dated",
        }
    }
}

/// The server's quotas, one for each origin.
#[derive(Debug)]
pub(crate) struct Quotas {
    fields: Fields,
    began: Instant,
    /// The end of the first window, in seconds since 1970.
    reset: u64,
    /// Whole seconds since the server began. Written once a second, so that requests do not read the clock.
    elapsed: AtomicU64,
    by_origin: Box<[Quota]>,
}

/// Aligned, so that threads that use different origins do not share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Quota {
    answers: AtomicU64,
}

impl Quotas {
    /// Creates a server that lives as long as the program. Its clones are free.
    pub(crate) fn leak(fields: Fields, origins: usize) -> &'static Self {
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Box::leak(Box::new(Self {
            fields,
            began: Instant::now(),
            reset: epoch.expect("a clock after 1970").as_secs() + WINDOW,
            elapsed: AtomicU64::new(0),
            by_origin: (0..origins).map(|_| Quota::default()).collect(),
        }))
    }

    /// Counts an answer to a request for `host`, and writes the fields of its quota.
    pub(crate) fn announce(&self, host: &str, headers: &mut HeaderMap) {
        let quota = match &*self.by_origin {
            [only] => only,
            quotas => &quotas[number_of(host)],
        };
        let answers = quota.answers.fetch_add(1, Relaxed);
        let (elapsed, remaining) = (self.elapsed(answers), remaining(answers));
        let windows = answers / RENEWED_AFTER;
        let reset = self.reset + windows * WINDOW;
        match self.fields {
            Fields::Didit => three(headers, remaining, reset),
            Fields::GitHub => {
                three(headers, remaining, reset);
                headers.insert(X_USED, HeaderValue::from(LIMIT - remaining));
                headers.insert(X_RESOURCE, HeaderValue::from_static("core"));
            }
            Fields::Draft10 => {
                let left = ((windows + 1) * WINDOW).saturating_sub(elapsed).max(1);
                let policy = format_args!("\"default\";q={LIMIT};w={WINDOW}");
                headers.insert(POLICY, value(policy));
                let state = format_args!("\"default\";r={remaining};t={left}");
                headers.insert(RATELIMIT, value(state));
            }
            Fields::Dated => {
                let date = Duration::from_secs(self.reset - WINDOW + elapsed);
                let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + date);
                headers.insert(header::DATE, value(format_args!("{date}")));
                three(headers, remaining, reset);
            }
        }
    }

    /// The `remaining` of the last answer from the origin with this number.
    #[allow(
        dead_code,
        reason = "not every benchmark checks what the layer has read"
    )]
    pub(crate) fn last_remaining(&self, origin: usize) -> Option<u64> {
        let answers = self.by_origin[origin].answers.load(Relaxed);
        answers.checked_sub(1).map(remaining)
    }

    fn elapsed(&self, answers: u64) -> u64 {
        if answers.is_multiple_of(256) {
            let now = self.began.elapsed().as_secs();
            if now != self.elapsed.load(Relaxed) {
                self.elapsed.store(now, Relaxed);
            }
        }
        self.elapsed.load(Relaxed)
    }
}

fn remaining(answers: u64) -> u64 {
    LIMIT - 1 - answers % RENEWED_AFTER
}

fn three(headers: &mut HeaderMap, remaining: u64, reset: u64) {
    headers.insert(X_LIMIT, HeaderValue::from(LIMIT));
    headers.insert(X_REMAINING, HeaderValue::from(remaining));
    headers.insert(X_RESET, HeaderValue::from(reset));
}

fn value(text: std::fmt::Arguments<'_>) -> HeaderValue {
    let mut bytes = [0; 64];
    let mut left = &mut bytes[..];
    left.write_fmt(text).expect("short enough");
    let length = 64 - left.len();
    HeaderValue::from_bytes(&bytes[..length]).expect("visible characters")
}

/// Returns the origin with this number. `of`: how many there are.
pub(crate) fn origin(number: usize, of: usize) -> String {
    if of == 1 {
        return "https://api.example.com".to_owned();
    }
    format!("https://api-{number:02}.example.com")
}

fn number_of(host: &str) -> usize {
    let digits = host.strip_prefix("api-").map(str::as_bytes);
    let digits = digits.and_then(|text| text.first_chunk::<2>());
    let [tens, ones] = digits.expect("a host of `origin`");
    usize::from(tens - b'0') * 10 + usize::from(ones - b'0')
}

/// More than any run sends in a window, as from a server that is not short of anything.
const LIMIT: u64 = 50_000_000;
/// Answers after which the next window begins.
const RENEWED_AFTER: u64 = LIMIT / 2;
/// Length of a window, in seconds. Longer than a run.
const WINDOW: u64 = 3600;

const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const X_USED: HeaderName = HeaderName::from_static("x-ratelimit-used");
const X_RESOURCE: HeaderName = HeaderName::from_static("x-ratelimit-resource");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
