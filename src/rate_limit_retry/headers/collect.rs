//! Collects the fields of one response into quotas and a wait.
//!
//! - [`Known::of`] determines the meaning of each field, from its name and the profile.
//! - A wait is recorded with the rank of its field. Any other value is added to the quota of the same family and
//!   dimension.
//! - Times and counts under different names of one family are [merged](super::join).
//! - Quotas that are not credible as rate limits are removed.
//! - Lists are split by position, the profile adds documented values, and duplicates are removed.
//!
//! Waits have these ranks; the lowest one applies:
//!
//! | rank | fields |
//! |---|---|
//! | 0 | waits in milliseconds or finer, such as `retry-after-ms` |
//! | 1 | `Retry-After`, and `Retry-After-<name>` |
//! | 2 | any other wait, such as `X-Retry-After` |

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};

use super::{
    Advice, Field, Limit, Profile,
    columns::{COLUMNS, Line},
    flags,
    known::{Known, fields},
    name::{Dimension, Meaning},
    quota::Quota,
    value::{self, When, halves, labelled, named, split},
    words::Role,
};
use crate::{retry_after::MILLI, steps::count_steps};

/// The result of reading the fields.
#[derive(Debug)]
pub(super) struct Collected<'a> {
    /// The quotas, at most [`MOST_QUOTAS`].
    pub(super) quotas: Vec<Quota<'a>>,
    /// Explicit advice about a retry.
    pub(super) advice: Option<Advice>,
    /// Whether the rejection applies to every quota of the client.
    pub(super) global: bool,
    /// The wait, and the rank of its field; 0 is the most precise.
    asked: Option<(u8, When)>,
    /// The response headers, which are read again for values that are lists.
    headers: &'a HeaderMap,
    /// The server's time, which dates are relative to.
    reference: SystemTime,
    /// The header profile.
    profile: Option<&'a dyn Profile>,
}

impl<'a> Collected<'a> {
    /// Reads all fields, merges related quotas, and removes quotas that are not credible.
    pub(super) fn read(
        headers: &'a HeaderMap,
        reference: SystemTime,
        profile: Option<&'a dyn Profile>,
    ) -> Self {
        let mut collected = Self {
            quotas: Vec::new(),
            advice: None,
            global: false,
            asked: None,
            headers,
            reference,
            profile,
        };
        for (name, value, told) in fields(headers, profile) {
            collected.take(name, value, told);
        }
        collected.join();
        collected.complete();
        collected.quotas.retain(Quota::is_credible);
        collected
    }

    /// Returns the wait that the most precise field asks for; of equally precise ones, the longest. A wait sent as a
    /// duration is reduced by the `age` of the response.
    pub(super) fn asked(&self, age: Duration) -> Option<Duration> {
        self.asked.map(|(_, when)| match when {
            When::In(wait) => wait.saturating_sub(age),
            When::At(wait) => wait,
        })
    }

    /// Returns a date and a duration in the response that describe the same point in time, both relative to the
    /// reference.
    pub(super) fn told_twice(&self) -> Option<(Duration, Duration)> {
        let asked = self.asked.and_then(|(_, when)| match when {
            When::In(wait) => Some(wait),
            When::At(_) => None,
        });
        self.quotas.iter().find_map(|quota| quota.told_twice(asked))
    }

    /// Converts the quotas to [`Limit`]s, for a response with this status.
    ///
    /// The profile adds its documented values: by position, if the quota's values are lists. Duplicates, quotas
    /// without values, and limits of zero outside of throttling rejections are omitted. Returns at most [`MOST_LIMITS`].
    pub(super) fn into_limits(self, status: StatusCode) -> Vec<Limit> {
        let lines = self.lines();
        let mut limits = Vec::new();
        for (at, quota) in self.quotas.into_iter().enumerate() {
            count_steps(lines.len());
            let own = lines.iter().filter(|(of, _)| *of == at);
            let own: Vec<_> = own.map(|(_, line)| *line).collect();
            let is_listed = !own.is_empty();
            for (position, mut limit) in quota
                .into_limits(&own, self.reference)
                .into_iter()
                .enumerate()
            {
                if let Some(profile) = self.profile {
                    if is_listed {
                        profile.complete_at(&mut limit, position);
                    } else {
                        profile.complete(&mut limit);
                    }
                }
                count_steps(limits.len());
                limit.shorten_name();
                let real = !limit.is_none_at_all(status) && limit.says_something();
                if limits.len() < MOST_LIMITS && real && !limits.contains(&limit) {
                    limits.push(limit);
                }
            }
        }
        limits
    }

    /// Returns all lines of the fields whose values are lists, with the index of the quota that each one describes.
    fn lines(&self) -> Vec<(usize, Line<'a>)> {
        if !self.quotas.iter().any(|quota| quota.has_list) {
            return Vec::new();
        }
        let lines = fields(self.headers, self.profile).filter_map(|(name, value, told)| {
            let known = Known::of(name, told)?;
            let (field, scale) = match known.field {
                Field::ResetMillis => (Field::Reset, Some(MILLI)),
                Field::WindowMillis => (Field::Window, Some(MILLI)),
                field => (field, known.scale),
            };
            let same =
                |quota: &Quota<'_>| quota.has_list && quota.is(known.family, &known.dimension);
            let at = self.quotas.iter().position(same)?;
            let line = Line {
                field,
                scale,
                value,
            };
            COLUMNS.contains(&field).then_some((at, line))
        });
        lines.collect()
    }

    /// Adds the value of one field. `told` is the meaning that the profile gives.
    ///
    /// - A pushback or a retry-after is a wait. A malformed pushback advises against a retry (gRPC A6).
    /// - A complete description is parsed by its own rules.
    /// - A value that names its quotas is split; each name extends the dimension.
    /// - Any other value is added to the quota that the field describes.
    fn take(&mut self, name: &'a str, value: &'a [u8], told: Option<Field>) {
        self.global |= flags::is_global(name, value);
        if told.is_none()
            && let Some(advice) = flags::advice(name, value)
        {
            return self.advise(advice);
        }
        let Some(known) = Known::of(name, told) else {
            return;
        };
        let reference = self.reference;
        match known.field {
            Field::Ignored => {}
            Field::Pushback => match When::parse_millis(value) {
                Some(wait) => self.ask(0, wait),
                None => self.advise(Advice::DoNotRetry),
            },
            Field::RetryAfter | Field::RetryAfterMillis => {
                let scale = match known.field {
                    Field::RetryAfterMillis => Some(MILLI),
                    _ => known.scale,
                };
                let rank = match scale {
                    Some(..=MILLI) => 0,
                    // `Retry-After`, also with the name of a quota.
                    _ if name.starts_with("retry-after") => 1,
                    _ => 2,
                };
                if let Some(wait) = longest(value, |item| retry_after(scale, item, reference)) {
                    self.ask(rank, wait);
                }
            }
            Field::Cooldowns => self.cooldowns(known.family, value),
            Field::Whole => self.whole(&known, value),
            Field::Limit | Field::Remaining | Field::Used | Field::Reset | Field::Window
                if has_names(value, known.field) =>
            {
                for (name, value) in named(value).chain(labelled(value)) {
                    let Some(name) = std::str::from_utf8(name)
                        .ok()
                        .filter(|name| !name.is_empty())
                    else {
                        continue;
                    };
                    let mut one = known;
                    if one.dimension.push(name).is_some() {
                        self.put(&one, value);
                    }
                }
            }
            _ => self.put(&known, value),
        }
    }

    /// Adds the value to the quota that the field describes.
    fn put(&mut self, known: &Known<'a>, value: &[u8]) {
        let reference = self.reference;
        if let Some(quota) = self.quota(known.family, known.dimension) {
            quota.is_compound |= known.is_compound;
            quota.put(known.field, known.scale, value, reference);
        }
    }

    /// Records a wait. A lower rank takes precedence; of equal ranks, the longer wait applies.
    fn ask(&mut self, rank: u8, when: When) {
        let longer = |(known, longest): (u8, When)| {
            rank < known || (rank == known && when.wait() > longest.wait())
        };
        if self.asked.is_none_or(longer) {
            self.asked = Some((rank, when));
        }
    }

    /// Records advice. [`Advice::DoNotRetry`] takes precedence.
    fn advise(&mut self, advice: Advice) {
        if self.advice != Some(Advice::DoNotRetry) {
            self.advice = Some(advice);
        }
    }

    /// Adds an exhausted quota for each category of events: `60:transaction:key, 2700:default;error:organization`.
    fn cooldowns(&mut self, family: &'a str, value: &[u8]) {
        for item in split(value, b',') {
            let Some((seconds, rest)) = halves(item, b':') else {
                continue;
            };
            let categories = split(rest, b':').next().unwrap_or_default();
            let mut quota = Quota::new(family, Dimension::default());
            quota.put(Field::Reset, None, seconds, self.reference);
            if quota.has_reset() && self.quotas.len() < MOST_QUOTAS {
                quota.name = Some(String::from_utf8_lossy(categories).into_owned());
                quota.put(Field::Remaining, None, b"0", self.reference);
                quota.unit = Some(super::Unit::Other);
                self.quotas.push(quota);
            }
        }
    }

    /// Returns the quota that a field describes, and adds it if necessary. Returns `None` if there are
    /// [`MOST_QUOTAS`] others.
    fn quota(&mut self, family: &'a str, dimension: Dimension<'a>) -> Option<&mut Quota<'a>> {
        let known = self
            .quotas
            .iter()
            .position(|quota| quota.is(family, &dimension));
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

    /// Reads a field that completely describes one or several quotas. In this order:
    ///
    /// - JSON;
    /// - a list of named items (IETF drafts 08 to 10);
    /// - `used/limit`;
    /// - pairs of keys and values;
    /// - a bare limit, if the field's dimension is empty or a window.
    fn whole(&mut self, known: &Known<'a>, value: &'a [u8]) {
        let as_field = |field| Known { field, ..*known };
        match value.first() {
            Some(b'{') => self.json(known, value),
            // IETF drafts 08 to 10.
            _ if is_list(value) => self.put(&as_field(Field::Policy), value),
            _ if value::used_of_limit(value).is_some() => {
                self.put(&as_field(Field::UsedOfLimit), value);
            }
            Some(first) if first.is_ascii_alphabetic() => {
                for (key, value) in named(value) {
                    if let Ok(key) = std::str::from_utf8(key) {
                        self.member(known, key, value);
                    }
                }
            }
            // With any other dimension, the meaning of a bare number is unknown.
            _ if known.dimension.is_empty() || known.dimension.window().is_some() => {
                self.put(&as_field(Field::Limit), value);
            }
            _ => {}
        }
    }

    /// Reads `{"name":"API","period":10,"limit":50,"remaining":0,"until":"2026-09-21T14:14:20Z"}`.
    fn json(&mut self, known: &Known<'a>, value: &[u8]) {
        let members = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(value);
        for (key, value) in members.unwrap_or_default() {
            let text = match value {
                serde_json::Value::String(text) => text,
                serde_json::Value::Number(number) => number.to_string(),
                _ => continue,
            };
            if let Some((meaning, Some(role))) = Meaning::parse(&key)
                && meaning.dimension.is_empty()
            {
                let one = Known {
                    field: role.field(),
                    scale: meaning.scale,
                    ..*known
                };
                self.put(&one, text.as_bytes());
            }
        }
    }

    /// Reads a member of `limit=100, remaining=0, reset=5` (IETF draft 07), of `total=100; remaining=99; resets=41`
    /// (Zendesk), or of a value with the name of the quota: `user-hour-rem:500;`.
    fn member(&mut self, known: &Known<'a>, key: &'a str, value: &'a [u8]) {
        let Some((meaning, Some(role))) = Meaning::parse(key) else {
            return;
        };
        if let Some(dimension) = known.dimension.and(meaning.dimension)
            && role != Role::Wait
        {
            let one = Known {
                dimension,
                field: role.field(),
                scale: meaning.scale,
                ..*known
            };
            self.put(&one, value);
        }
    }
}

/// Returns whether the value is a list of names with parameters, and not a dictionary. Drafts 07 and 08 use the same
/// field name.
fn is_list(value: &[u8]) -> bool {
    let named = value.first().is_some_and(|b| !b.is_ascii_digit());
    let first = value
        .iter()
        .find(|b| matches!(b, b'"' | b';' | b'=' | b':'));
    named && matches!(first, Some(b'"' | b';'))
}

/// Returns whether the value contains names of quotas: `name=burst,10;name=daily,1000`, `minute=60, day=1000`,
/// `reads;133,writes;57`.
fn has_names(value: &[u8], field: Field) -> bool {
    let first = value.first().is_some_and(u8::is_ascii_alphabetic);
    // Dates contain colons.
    let separator =
        |byte: &u8| matches!(byte, b'=' | b';') || (*byte == b':' && field != Field::Reset);
    first && value.iter().any(separator)
}

/// Parses a wait in the forms of a reset, and in those that [`crate::retry_after`] accepts.
fn retry_after(scale: Option<u64>, value: &[u8], reference: SystemTime) -> Option<When> {
    When::parse_in(scale, value, reference)
        .or_else(|| crate::retry_after::retry_after(value, reference).map(When::At))
}

/// Returns the longest wait of joined lines. The complete value is tried first, because dates contain commas.
fn longest(value: &[u8], read: impl Fn(&[u8]) -> Option<When>) -> Option<When> {
    read(value).or_else(|| {
        let items = split(value, b',').filter_map(&read);
        items.max_by_key(|when| when.wait())
    })
}

/// Maximum number of quotas in a result. No server announces this many.
const MOST_LIMITS: usize = 64;
/// Maximum number of quotas while the fields are collected.
const MOST_QUOTAS: usize = 64;
