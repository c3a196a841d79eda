//! Every field set of `tests/data/rate_limit_vectors_2.json`: what real servers send, and what is right.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use tower_m2m::rate_limit_retry::headers::{Limit, RateLimitInfo, Unit, Vendor, read_with};

use super::{headers, now, signals, words};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldSet {
    id: String,
    vendor: String,
    #[serde(rename = "source")]
    _source: String,
    status: u16,
    headers: Vec<String>,
    date: String,
    #[serde(rename = "now")]
    _now: u64,
    expected: Expected,
}

/// What is right; a member that is not there says nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// `null` is no wait.
    #[serde(default, deserialize_with = "present")]
    wait_s: Option<Option<f64>>,
    quotas: Option<Vec<String>>,
    exhausted: Option<bool>,
    throttle: Option<bool>,
    /// How long further requests are held after this answer.
    hold_s: Option<f64>,
    #[serde(default)]
    #[serde(rename = "note")]
    _note: Option<String>,
}

/// One quota of `expected`: `rate-limit-1: 0 left of 100 Requests in 10s reset 32s +10/s`.
#[derive(Debug, Default)]
struct Quota {
    name: Option<String>,
    unit: Option<String>,
    remaining: Option<u64>,
    limit: Option<u64>,
    window: Option<f64>,
    reset: Option<f64>,
    refill: Option<f64>,
}

/// What only the documentation says, by the vendor's name in the data.
const DOCUMENTED: &[(&str, Vendor)] = &[
    ("Strava", Vendor::STRAVA),
    ("KuCoin", Vendor::KUCOIN),
    ("Huobi/HTX futures", Vendor::HUOBI),
    ("Oracle Access Governance", Vendor::ORACLE),
    ("Hetzner Cloud", Vendor::HETZNER),
];

#[test]
fn every_documented_field_set_is_parsed() {
    let sets = field_sets();

    let wrong: Vec<String> = sets.iter().filter_map(|set| mistake(set).err()).collect();

    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        sets.len(),
        wrong.join("\n")
    );
    assert_eq!(sets.len(), 45);
}

/// Right as the fields are, or right with the vendor's row and never too early without.
fn mistake(set: &FieldSet) -> Result<(), String> {
    let mut lines: Vec<&str> = set.headers.iter().map(String::as_str).collect();
    let date = format!("Date: {}", set.date);
    lines.push(&date);
    let plain = signals(set.status, &lines);
    let row = DOCUMENTED.iter().find(|row| row.0 == set.vendor);
    let plainly = differences(set, &plain);
    let Some((_, vendor)) = row else {
        return as_error(set, plainly, &plain);
    };
    let status = StatusCode::from_u16(set.status).unwrap();
    let known = read_with(vendor, status, &headers(&lines), now());
    as_error(set, differences(set, &known), &known)?;
    let early: Vec<String> = plainly
        .into_iter()
        .filter(|difference| difference.too_early)
        .map(|difference| difference.text)
        .collect();
    if early.is_empty() {
        Ok(())
    } else {
        Err(format!("{} without a profile: {early:?}", set.id))
    }
}

struct Difference {
    text: String,
    /// A client would come too early because of it.
    too_early: bool,
}

fn as_error(set: &FieldSet, found: Vec<Difference>, read: &RateLimitInfo) -> Result<(), String> {
    if found.is_empty() {
        return Ok(());
    }
    let found: Vec<String> = found.into_iter().map(|one| one.text).collect();
    let limits: Vec<String> = read.limits.iter().map(words).collect();
    Err(format!(
        "{} {}: {found:?}, read {:?} {limits:?}",
        set.id, set.vendor, read.retry_after
    ))
}

fn differences(set: &FieldSet, read: &RateLimitInfo) -> Vec<Difference> {
    let expected = &set.expected;
    let status = StatusCode::from_u16(set.status).unwrap();
    let mut found = Vec::new();
    let mut differ = |text: String, too_early| found.push(Difference { text, too_early });
    if let Some(wait) = expected.wait_s {
        let wait = wait.map(Duration::from_secs_f64);
        if read.retry_after != wait {
            differ(format!("wait {wait:?}"), read.retry_after < wait);
        }
    }
    if let Some(hold) = expected.hold_s.map(Duration::from_secs_f64)
        && read.exhausted_reset() != Some(hold)
    {
        differ(
            format!("hold {hold:?}"),
            read.exhausted_reset() < Some(hold),
        );
    }
    if let Some(exhausted) = expected.exhausted
        && read.is_exhausted() != exhausted
    {
        differ(format!("exhausted {exhausted}"), exhausted);
    }
    if let Some(throttle) = expected.throttle
        && read.is_throttle(status) != throttle
    {
        differ(format!("throttle {throttle}"), throttle);
    }
    for text in expected.quotas.iter().flatten() {
        let quota = Quota::parse(text);
        if !read.limits.iter().any(|limit| quota.is(limit)) {
            let longer = read.limits.iter().any(|limit| quota.is_at_most(limit));
            differ(format!("quota {text}"), !longer);
        }
    }
    found
}

impl Quota {
    fn parse(text: &str) -> Self {
        let (name, text) = match text.split_once(": ") {
            Some((name, text)) => (Some(name.to_owned()), text),
            None => (None, text),
        };
        let mut quota = Self {
            name,
            ..Self::default()
        };
        let seconds = |word: Option<&str>| word?.strip_suffix('s')?.parse().ok();
        let mut words = text.split(' ').peekable();
        while let Some(word) = words.next() {
            match word {
                "left" => {}
                "of" => quota.limit = words.next().and_then(|count| count.parse().ok()),
                "in" => quota.window = seconds(words.next()),
                "reset" => quota.reset = seconds(words.next()),
                count
                    if words
                        .peek()
                        .is_some_and(|next| matches!(*next, "left" | "of")) =>
                {
                    quota.remaining = Some(count.parse().unwrap());
                }
                rate if rate.ends_with("/s") => {
                    quota.refill = rate.trim_matches(['+', '/', 's']).parse().ok();
                }
                unit => quota.unit = Some(unit.to_owned()),
            }
        }
        quota
    }

    /// Everything that is expected is there. What is not named may be anything, but a count may not be made up.
    fn is(&self, limit: &Limit) -> bool {
        let time = |expected: Option<f64>, read: Option<Duration>| {
            let read = read.map(|time| time.as_secs_f64());
            // The data rounds to tenths.
            expected.is_none_or(|expected| read.is_some_and(|read| (read - expected).abs() < 0.05))
        };
        self.counts(limit)
            && time(self.window, limit.window)
            && time(self.reset, limit.reset)
            && self.refill.is_none_or(|rate| limit.refill == Some(rate))
    }

    /// The same counts, and no time that is shorter.
    fn is_at_most(&self, limit: &Limit) -> bool {
        let time = |expected: Option<f64>, read: Option<Duration>| {
            expected
                .zip(read)
                .is_none_or(|(expected, read)| read.as_secs_f64() >= expected)
        };
        self.counts(limit) && time(self.window, limit.window) && time(self.reset, limit.reset)
    }

    fn counts(&self, limit: &Limit) -> bool {
        self.name
            .as_ref()
            .is_none_or(|name| limit.name.as_ref() == Some(name))
            && format!("{:?}", limit.unit) == self.unit.as_deref().unwrap_or("Requests")
            && limit.remaining == self.remaining
            && limit.limit == self.limit
    }
}

#[test]
fn millisecond_fields_are_recognized_by_vendor() {
    let lines = ["Retry-After: 1500", "X-ProcessingUnits-Retry-After: 40"];
    let read = |vendor: &Vendor| {
        let status = StatusCode::TOO_MANY_REQUESTS;
        read_with(vendor, status, &headers(&lines), now()).retry_after
    };

    assert_eq!(
        read(&Vendor::SENTINEL_HUB),
        Some(Duration::from_millis(1500))
    );
    assert_eq!(read(&Vendor::GITHUB), Some(Duration::from_secs(1500)));
    assert_eq!(Unit::default(), Unit::Requests);
}

/// A member that may be `null`, and be missing.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(from).map(Some)
}

fn field_sets() -> Vec<FieldSet> {
    serde_json::from_str(include_str!("../data/rate_limit_vectors_2.json")).unwrap()
}
