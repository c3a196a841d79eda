//! Gathers what the fields of one response say, field by field, into quotas and a wait.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::{
    Advice, Field, Limit, Profile, flags,
    name::{Name, field_of},
    profile::unmistakable,
    quota::Quota,
    value::{self, When, halves, split},
};

/// What has been read so far.
#[derive(Debug)]
pub(super) struct Collected<'a> {
    pub(super) quotas: Vec<Quota<'a>>,
    pub(super) advice: Option<Advice>,
    /// The wait, and how far its field is from the most exact one.
    asked: Option<(u8, When)>,
    reference: SystemTime,
    profile: Option<&'a dyn Profile>,
}

impl<'a> Collected<'a> {
    pub(super) fn read(
        headers: &'a HeaderMap,
        reference: SystemTime,
        profile: Option<&'a dyn Profile>,
    ) -> Self {
        let mut collected = Self {
            quotas: Vec::new(),
            advice: None,
            asked: None,
            reference,
            profile,
        };
        let mut fields = 0;
        for (name, value) in headers {
            let (name, value) = (name.as_str(), value.as_bytes());
            if value.len() > MOST_BYTES || fields == MOST_FIELDS {
                continue;
            }
            fields += usize::from(collected.take(name, value.trim_ascii()));
        }
        collected
    }

    /// The wait that the most exact field asks for, and of several such fields the longest. Of a length of time, what
    /// is left when the response is `age` old.
    pub(super) fn asked(&self, age: Duration) -> Option<Duration> {
        self.asked.map(|(_, when)| match when {
            When::In(wait) => wait.saturating_sub(age),
            When::At(wait) => wait,
        })
    }

    /// A date and a length of time that the response tells for the same moment, both counted from the reference.
    pub(super) fn told_twice(&self) -> Option<(Duration, Duration)> {
        let asked = self.asked.and_then(|(_, when)| match when {
            When::In(wait) => Some(wait),
            When::At(_) => None,
        });
        self.quotas.iter().find_map(|quota| quota.told_twice(asked))
    }

    pub(super) fn into_limits(self) -> Vec<Limit> {
        let mut limits = Vec::new();
        for mut limit in self.quotas.into_iter().flat_map(Quota::into_limits) {
            if let Some(profile) = self.profile {
                profile.complete(&mut limit);
            }
            if limits.len() < MOST_LIMITS && limit.says_something() && !limits.contains(&limit) {
                limits.push(limit);
            }
        }
        limits
    }

    /// Reads one field. Returns whether it is about limits.
    fn take(&mut self, name: &'a str, value: &[u8]) -> bool {
        let told = self.profile.and_then(|profile| profile.field(name));
        if told.is_none() && !super::is_about_limits(name) {
            return false;
        }
        self.put(told, name, value);
        true
    }

    fn put(&mut self, told: Option<Field>, name: &'a str, value: &[u8]) {
        if told.is_none()
            && let Some(advice) = flags::advice(name, value)
        {
            return self.advise(advice);
        }
        let known = told
            .or_else(|| unmistakable(name))
            .or_else(|| retry_field(name));
        let parsed = Name::parse(name);
        let (family, dimension, field) = match (known, parsed) {
            (Some(field), Some(parsed)) => (parsed.family, parsed.dimension, field),
            // What a profile names by itself is about one quota.
            (Some(field), None) if told.is_some() => ("", "", field),
            (Some(field), None) => (name, "", field),
            (None, Some(parsed)) => (parsed.family, parsed.dimension, parsed.field),
            (None, None) => return,
        };
        match field {
            Field::Ignored => {}
            Field::Pushback => match When::parse_millis(value) {
                Some(wait) => self.ask(0, wait),
                None => self.advise(Advice::DoNotRetry),
            },
            Field::RetryAfterMillis => {
                if let Some(wait) = longest(value, When::parse_millis) {
                    self.ask(0, wait);
                }
            }
            Field::RetryAfter => {
                let reference = self.reference;
                if let Some(wait) = longest(value, |item| retry_after(item, reference)) {
                    self.ask(if name == "retry-after" { 1 } else { 2 }, wait);
                }
            }
            Field::Cooldowns => self.cooldowns(family, value),
            _ => {
                let reference = self.reference;
                let Some(quota) = self.quota(family, dimension) else {
                    return;
                };
                if field == Field::Whole {
                    whole(quota, value, reference);
                } else {
                    quota.put(field, value, reference);
                }
            }
        }
    }

    fn ask(&mut self, rank: u8, when: When) {
        let longer = |(known, longest): (u8, When)| {
            rank < known || (rank == known && when.wait() > longest.wait())
        };
        if self.asked.is_none_or(longer) {
            self.asked = Some((rank, when));
        }
    }

    fn advise(&mut self, advice: Advice) {
        if self.advice != Some(Advice::DoNotRetry) {
            self.advice = Some(advice);
        }
    }

    /// `60:transaction:key, 2700:default;error:organization`: kinds of events for which the quota is used up.
    fn cooldowns(&mut self, family: &'a str, value: &[u8]) {
        for item in split(value, b',') {
            let Some((seconds, rest)) = halves(item, b':') else {
                continue;
            };
            let categories = split(rest, b':').next().unwrap_or_default();
            let mut quota = Quota::new(family, "");
            quota.put(Field::Reset, seconds, self.reference);
            if quota.has_reset() && self.quotas.len() < MOST_QUOTAS {
                quota.name = Some(String::from_utf8_lossy(categories).into_owned());
                quota.put(Field::Remaining, b"0", self.reference);
                quota.unit = Some(super::Unit::Other);
                self.quotas.push(quota);
            }
        }
    }

    /// The quota that a field is about; `None` if there are too many others.
    fn quota(&mut self, family: &'a str, dimension: &'a str) -> Option<&mut Quota<'a>> {
        let known = self
            .quotas
            .iter()
            .position(|quota| quota.is(family, dimension));
        let at = match known {
            Some(at) => at,
            None if self.quotas.len() >= MOST_QUOTAS => return None,
            None => {
                self.quotas.push(Quota::new(family, dimension));
                self.quotas.len() - 1
            }
        };
        self.quotas.get_mut(at)
    }
}

/// A field that says everything about a quota.
fn whole(quota: &mut Quota<'_>, value: &[u8], reference: SystemTime) {
    match value.first() {
        Some(b'{') => json(quota, value, reference),
        // IETF drafts 08 to 10.
        _ if is_list(value) => quota.put(Field::Policy, value, reference),
        _ if value::used_of_limit(value).is_some() => {
            quota.put(Field::UsedOfLimit, value, reference);
        }
        _ if value.contains(&b'=') => pairs(quota, value, reference),
        _ if quota.may_be_bare() => quota.put(Field::Limit, value, reference),
        _ => {}
    }
}

/// A list of names with parameters, and not a dictionary: drafts 07 and 08 share the name of the field.
fn is_list(value: &[u8]) -> bool {
    let named = value.first().is_some_and(|b| !b.is_ascii_digit());
    let first = value.iter().find(|b| matches!(b, b'"' | b';' | b'='));
    named && matches!(first, Some(b'"' | b';'))
}

/// `{"name":"API","period":10,"limit":50,"remaining":0,"until":"2026-09-21T14:14:20Z"}`
fn json(quota: &mut Quota<'_>, value: &[u8], reference: SystemTime) {
    let members = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(value);
    for (key, value) in members.unwrap_or_default() {
        let text = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            _ => continue,
        };
        member(quota, &key, text.as_bytes(), reference);
    }
}

/// `limit=100, remaining=0, reset=5` (IETF draft 07), or `total=100; remaining=99; resets=41` (Zendesk).
fn pairs(quota: &mut Quota<'_>, value: &[u8], reference: SystemTime) {
    if value.contains(&b';') {
        for (key, value) in split(value, b';').filter_map(|pair| halves(pair, b'=')) {
            if let Ok(key) = std::str::from_utf8(key) {
                member(quota, key, value, reference);
            }
        }
    } else {
        for (key, number) in super::structured::members(value) {
            member(quota, key, number.to_string().as_bytes(), reference);
        }
    }
}

fn member(quota: &mut Quota<'_>, key: &str, value: &[u8], reference: SystemTime) {
    if let Some(("", field)) = field_of(&key.to_ascii_lowercase()) {
        quota.put(field, value, reference);
    }
}

/// `retry-after` and its relatives, with or without a prefix.
fn retry_field(name: &str) -> Option<Field> {
    if name.ends_with("retry-after-ms") {
        Some(Field::RetryAfterMillis)
    } else {
        name.ends_with("retry-after").then_some(Field::RetryAfter)
    }
}

/// As [`crate::retry_after`] reads it, and in all forms that resets have.
fn retry_after(value: &[u8], reference: SystemTime) -> Option<When> {
    When::parse(value, reference)
        .or_else(|| crate::retry_after::retry_after(value, reference).map(When::At))
}

/// Of a field whose lines have been joined the longest; dates have commas of their own.
fn longest(value: &[u8], read: impl Fn(&[u8]) -> Option<When>) -> Option<When> {
    read(value).or_else(|| {
        let items = split(value, b',').filter_map(&read);
        items.max_by_key(|when| when.wait())
    })
}

/// Maximum number of quotas in a result. No server announces this many.
const MOST_LIMITS: usize = 64;
/// Maximum number of quotas whose fields are gathered.
const MOST_QUOTAS: usize = 64;
/// Maximum number of field lines about limits in a response; further lines are ignored.
const MOST_FIELDS: usize = 256;
/// Maximum length of a value; a longer field is ignored.
const MOST_BYTES: usize = 4096;
