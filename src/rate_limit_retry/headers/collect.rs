//! Collects the fields of one response into quotas and a wait.
//!
//! - [`ResolvedField::resolve`] determines the meaning of each field, from its name and the profile.
//! - A wait is recorded with the rank of its field. Any other value is added to the quota of the same family and
//!   dimension.
//! - Times and counts under different names of one family are [merged](super::merge).
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
//!
//! Vendors that send `retry-after-ms` usually send `Retry-After` as well, in whole seconds: the more precise field is
//! meant for clients that understand it.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};

use super::{
    Field, HeaderProfile, Limit, RetryAdvice,
    columns::{COLUMNS, Line},
    flags,
    name::{Dimension, Meaning},
    quota_fields::QuotaFields,
    resolve::{ResolvedField, fields},
    value::{self, ResetTime, labeled_values, named_values, split_pair, split_quoted},
    words::Role,
};
use crate::{retry_after::MILLI, steps::count_steps};

/// The result of reading the fields.
#[derive(Debug)]
pub(super) struct Collected<'a> {
    /// The quotas, at most [`MAX_QUOTAS`].
    pub(super) quotas: Vec<QuotaFields<'a>>,
    /// Explicit advice about a retry.
    pub(super) advice: Option<RetryAdvice>,
    /// Whether the rejection applies to every quota of the client.
    pub(super) global: bool,
    /// The wait, and the rank of its field; 0 is the most precise.
    retry_after: Option<(u8, ResetTime)>,
    /// The response headers, which are read again for values that are lists. Lists are rare, so that the usual case
    /// does not keep the values.
    headers: &'a HeaderMap,
    /// The server's time, which dates are relative to.
    reference: SystemTime,
    /// The header profile.
    profile: Option<&'a dyn HeaderProfile>,
}

impl<'a> Collected<'a> {
    /// Reads all fields, merges related quotas, and removes quotas that are not credible.
    ///
    /// The order of these steps matters: a time without a count is credible only after it was merged into its quota,
    /// and a limit that found its remaining count must not be examined without it.
    pub(super) fn read(
        headers: &'a HeaderMap,
        reference: SystemTime,
        profile: Option<&'a dyn HeaderProfile>,
    ) -> Self {
        let mut collected = Self {
            quotas: Vec::new(),
            advice: None,
            global: false,
            retry_after: None,
            headers,
            reference,
            profile,
        };
        for (name, value, declared) in fields(headers, profile) {
            collected.read_field(name, value, declared);
        }
        collected.merge_times();
        collected.merge_counts();
        collected.quotas.retain(QuotaFields::is_credible);
        collected
    }

    /// Returns the wait that the most precise field asks for; of equally precise ones, the longest. A wait sent as a
    /// duration is reduced by the `age` of the response.
    pub(super) fn retry_after(&self, age: Duration) -> Option<Duration> {
        self.retry_after.map(|(_, when)| match when {
            ResetTime::Relative(wait) => wait.saturating_sub(age),
            ResetTime::Absolute(wait) => wait,
        })
    }

    /// Returns a date and a duration in the response that describe the same point in time, both relative to the
    /// reference. Their difference is the skew between the reference and the server's clock.
    pub(super) fn cross_check(&self) -> Option<(Duration, Duration)> {
        let delay = self.retry_after.and_then(|(_, when)| match when {
            ResetTime::Relative(wait) => Some(wait),
            ResetTime::Absolute(_) => None,
        });
        self.quotas
            .iter()
            .find_map(|quota| quota.cross_check(delay))
    }

    /// Converts the quotas to [`Limit`]s, for a response with this status.
    ///
    /// The profile adds its documented values: by position, if the quota's values are lists. Duplicates, quotas
    /// without values, and limits of zero outside of throttling rejections are omitted. Returns at most [`MAX_LIMITS`].
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
                limit.truncate_name();
                let real = !limit.means_unlimited(status) && limit.is_actionable();
                if limits.len() < MAX_LIMITS && real && !limits.contains(&limit) {
                    limits.push(limit);
                }
            }
        }
        limits
    }

    /// Returns all lines of the fields whose values are lists, with the index of the quota that each one describes.
    ///
    /// Allocates nothing if no quota has a list. Otherwise it resolves all fields a second time, because while the
    /// first field of a quota is read it is not known yet whether another one has as many items.
    fn lines(&self) -> Vec<(usize, Line<'a>)> {
        if !self.quotas.iter().any(|quota| quota.has_list) {
            return Vec::new();
        }
        let lines = fields(self.headers, self.profile).filter_map(|(name, value, declared)| {
            let known = ResolvedField::resolve(name, declared)?;
            let (field, scale) = match known.field {
                Field::ResetMillis => (Field::Reset, Some(MILLI)),
                Field::WindowMillis => (Field::Window, Some(MILLI)),
                field => (field, known.scale),
            };
            let same = |quota: &QuotaFields<'_>| {
                quota.has_list && quota.matches(known.family, &known.dimension)
            };
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

    /// Adds the value of one field. `declared` is the meaning that the profile gives.
    ///
    /// - A pushback or a retry-after is a wait. A malformed pushback advises against a retry (gRPC A6).
    /// - A complete description is parsed by its own rules.
    /// - A value that names its quotas is split; each name extends the dimension.
    /// - Any other value is added to the quota that the field describes.
    fn read_field(&mut self, name: &'a str, value: &'a [u8], declared: Option<Field>) {
        self.global |= flags::is_global(name, value);
        if declared.is_none()
            && let Some(advice) = flags::retry_advice(name, value)
        {
            return self.set_advice(advice);
        }
        let Some(known) = ResolvedField::resolve(name, declared) else {
            return;
        };
        let reference = self.reference;
        match known.field {
            Field::Ignored => {}
            Field::RetryPushback => match ResetTime::parse_millis(value) {
                Some(wait) => self.set_retry_after(0, wait),
                None => self.set_advice(RetryAdvice::DoNotRetry),
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
                if let Some(wait) = max_wait(value, |item| retry_after(scale, item, reference)) {
                    self.set_retry_after(rank, wait);
                }
            }
            Field::CategoryDelays => self.read_category_delays(known.family, value),
            Field::Combined => self.read_combined(&known, value),
            Field::Limit | Field::Remaining | Field::Used | Field::Reset | Field::Window
                if has_names(value, known.field) =>
            {
                for (name, value) in named_values(value).chain(labeled_values(value)) {
                    let Some(name) = std::str::from_utf8(name)
                        .ok()
                        .filter(|name| !name.is_empty())
                    else {
                        continue;
                    };
                    let mut one = known;
                    if one.dimension.push(name).is_some() {
                        self.set(&one, value);
                    }
                }
            }
            _ => self.set(&known, value),
        }
    }

    /// Adds the value to the quota that the field describes.
    fn set(&mut self, known: &ResolvedField<'a>, value: &[u8]) {
        let reference = self.reference;
        if let Some(quota) = self.quota_mut(known.family, known.dimension) {
            quota.is_compound |= known.is_compound;
            quota.set(known.field, known.scale, value, reference);
        }
    }

    /// Records a wait. A lower rank takes precedence; of equal ranks, the longer wait applies.
    fn set_retry_after(&mut self, rank: u8, when: ResetTime) {
        let longer = |(known, max): (u8, ResetTime)| {
            rank < known || (rank == known && when.delay() > max.delay())
        };
        if self.retry_after.is_none_or(longer) {
            self.retry_after = Some((rank, when));
        }
    }

    /// Records advice. [`RetryAdvice::DoNotRetry`] takes precedence.
    fn set_advice(&mut self, advice: RetryAdvice) {
        if self.advice != Some(RetryAdvice::DoNotRetry) {
            self.advice = Some(advice);
        }
    }

    /// Adds an exhausted quota for each category of events: `60:transaction:key, 2700:default;error:organization`.
    fn read_category_delays(&mut self, family: &'a str, value: &[u8]) {
        for item in split_quoted(value, b',') {
            let Some((seconds, rest)) = split_pair(item, b':') else {
                continue;
            };
            let categories = split_quoted(rest, b':').next().unwrap_or_default();
            let mut quota = QuotaFields::new(family, Dimension::default());
            quota.set(Field::Reset, None, seconds, self.reference);
            if quota.has_reset() && self.quotas.len() < MAX_QUOTAS {
                quota.name = Some(String::from_utf8_lossy(categories).into_owned());
                quota.set(Field::Remaining, None, b"0", self.reference);
                quota.unit = Some(super::Unit::Other);
                self.quotas.push(quota);
            }
        }
    }

    /// Returns the quota that a field describes, and adds it if necessary. Returns `None` if there are
    /// [`MAX_QUOTAS`] others. Searches linearly: nearly all responses have less than ten quotas.
    fn quota_mut(
        &mut self,
        family: &'a str,
        dimension: Dimension<'a>,
    ) -> Option<&mut QuotaFields<'a>> {
        let known = self
            .quotas
            .iter()
            .position(|quota| quota.matches(family, &dimension));
        let at = match known {
            Some(at) => at,
            None if self.quotas.len() >= MAX_QUOTAS => return None,
            None => {
                if self.quotas.is_empty() {
                    // Most responses describe one quota. The usual growth begins with four large elements.
                    self.quotas.reserve_exact(1);
                }
                self.quotas.push(QuotaFields::new(family, dimension));
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
    ///
    /// | value | read as |
    /// |---|---|
    /// | `{"limit":50,"remaining":0}` | JSON |
    /// | `"burst";r=0;t=12` | named items |
    /// | `32/40` | used and limit |
    /// | `limit=100, remaining=0, reset=5` | pairs |
    /// | `100` in `x-ratelimit`, or in `x-ratelimit-minute` | a limit |
    /// | `100` in `x-ratelimit-orders` | nothing |
    fn read_combined(&mut self, known: &ResolvedField<'a>, value: &'a [u8]) {
        let as_field = |field| ResolvedField { field, ..*known };
        match value.first() {
            Some(b'{') => self.read_json(known, value),
            // IETF drafts 08 to 10.
            _ if is_list(value) => self.set(&as_field(Field::Policy), value),
            _ if value::used_of_limit(value).is_some() => {
                self.set(&as_field(Field::UsedOfLimit), value);
            }
            Some(first) if first.is_ascii_alphabetic() => {
                for (key, value) in named_values(value) {
                    if let Ok(key) = std::str::from_utf8(key) {
                        self.read_member(known, key, value);
                    }
                }
            }
            // With any other dimension, the meaning of a bare number is unknown.
            _ if known.dimension.is_empty() || known.dimension.window().is_some() => {
                self.set(&as_field(Field::Limit), value);
            }
            _ => {}
        }
    }

    /// Reads `{"name":"API","period":10,"limit":50,"remaining":0,"until":"2026-09-21T14:14:20Z"}`.
    ///
    /// Only strings and numbers directly in the object are read. Keys that name anything besides a role, such as
    /// `burst-limit`, are ignored. A value that is not valid JSON is ignored as a whole.
    fn read_json(&mut self, known: &ResolvedField<'a>, value: &[u8]) {
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
                let one = ResolvedField {
                    field: role.field(),
                    scale: meaning.scale,
                    ..*known
                };
                self.set(&one, text.as_bytes());
            }
        }
    }

    /// Reads a member of `limit=100, remaining=0, reset=5` (IETF draft 07), of `total=100; remaining=99; resets=41`
    /// (Zendesk), or of a value with the name of the quota: `user-hour-rem:500;`.
    fn read_member(&mut self, known: &ResolvedField<'a>, key: &'a str, value: &'a [u8]) {
        let Some((meaning, Some(role))) = Meaning::parse(key) else {
            return;
        };
        if let Some(dimension) = known.dimension.concat(meaning.dimension)
            && role != Role::Wait
        {
            let one = ResolvedField {
                dimension,
                field: role.field(),
                scale: meaning.scale,
                ..*known
            };
            self.set(&one, value);
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
fn retry_after(scale: Option<u64>, value: &[u8], reference: SystemTime) -> Option<ResetTime> {
    ResetTime::parse_scaled(scale, value, reference)
        .or_else(|| crate::retry_after::retry_after(value, reference).map(ResetTime::Absolute))
}

/// Returns the longest wait of joined lines. The complete value is tried first, because dates contain commas.
fn max_wait(value: &[u8], read: impl Fn(&[u8]) -> Option<ResetTime>) -> Option<ResetTime> {
    read(value).or_else(|| {
        let items = split_quoted(value, b',').filter_map(&read);
        items.max_by_key(|when| when.delay())
    })
}

/// Maximum number of quotas in a result. No server announces this many.
const MAX_LIMITS: usize = 64;
/// Maximum number of quotas while the fields are collected. Each of them may become several in the result.
const MAX_QUOTAS: usize = 64;
