//! A quota while its fields are collected.
//!
//! Each field adds its value with [`QuotaFields::set`]. Quotas of one family are then [merged](super::merge), and
//! [`QuotaFields::is_credible`] identifies those that are not about rate limits, which are removed.
//! [`QuotaFields::into_limits`] converts the rest.

mod limits;

use std::time::{Duration, SystemTime};

use super::{
    Field, Unit,
    columns::{integer_part, window_from_seconds},
    name::Dimension,
    structured::{Item, MAX_ITEMS, items},
    value::{
        ResetTime, by_seconds, duration, is_unlimited, period, remaining, split_quoted,
        used_of_limit,
    },
    words::window_of,
};
use crate::{
    retry_after::{MILLI, Number},
    steps::count_steps,
};

/// The values that the fields of one family report for one dimension.
///
/// Of repeated fields, the least generous value applies. Exception: if several fields have the same number of values,
/// each position is a quota of its own.
///
/// | value | of several |
/// |---|---|
/// | limit, remaining count | the smallest |
/// | used count | the largest |
/// | reset | the latest; a duration takes precedence over a date |
/// | window, rate, refill, name | the last that is valid |
/// | policies, pairs | all, up to [`MAX_ITEMS`] |
#[derive(Debug, Default)]
pub(super) struct QuotaFields<'a> {
    /// Prefix that the field names share. Empty if the names do not mention a rate limit.
    pub(super) family: &'a str,
    /// Words that distinguish the quota from others of the family.
    pub(super) dimension: Dimension<'a>,
    /// Name that a field gives to the quota.
    pub(super) name: Option<String>,
    /// Unit, if it does not follow from the dimension.
    pub(super) unit: Option<Unit>,
    /// Whether a name contains the word `limit` or `quota` in addition to its role.
    pub(super) is_compound: bool,
    /// Smallest limit.
    limit: Option<u64>,
    /// Whether a limit was reported as unlimited.
    unlimited: bool,
    /// Smallest remaining count.
    remaining: Option<u64>,
    /// Largest used count.
    used: Option<u64>,
    /// Latest reset that was sent as a duration.
    reset_in: Option<Duration>,
    /// Latest reset that was sent as a date, relative to the reference.
    reset_at: Option<Duration>,
    /// Length of the window.
    window: Option<Duration>,
    /// Allowed number per second.
    rate: Option<f64>,
    /// Refilled number per window.
    refill: Option<f64>,
    /// Items of structured fields.
    policies: Vec<Item>,
    /// `limit:seconds` pairs.
    limits_by_seconds: Vec<(u64, u64)>,
    /// `used:seconds` pairs.
    used_by_seconds: Vec<(u64, u64)>,
    /// Whether a field has several values, in one line or in several.
    pub(super) has_list: bool,
}

impl<'a> QuotaFields<'a> {
    /// Creates a quota without values.
    pub(super) fn new(family: &'a str, dimension: Dimension<'a>) -> Self {
        Self {
            family,
            dimension,
            ..Self::default()
        }
    }

    /// Returns whether a field of this family and dimension describes this quota.
    pub(super) fn matches(&self, family: &str, dimension: &Dimension<'_>) -> bool {
        count_steps(1 + self.dimension.words().count());
        // A quota with an explicit unit is described by a single field.
        self.family == family && self.dimension == *dimension && self.unit.is_none()
    }

    /// Returns whether a reset is known.
    pub(super) fn has_reset(&self) -> bool {
        self.reset_in.is_some() || self.reset_at.is_some()
    }

    /// Returns the reset as a date and as a duration, if the response contains both. For an exhausted quota,
    /// `Retry-After` is a duration of the reset as well.
    pub(super) fn cross_check(&self, delay: Option<Duration>) -> Option<(Duration, Duration)> {
        let delay = delay.filter(|_| self.remaining == Some(0));
        Some((self.reset_at?, self.reset_in.or(delay)?))
    }

    /// Returns whether this is a rate limit.
    ///
    /// - A family that mentions a rate limit is sufficient.
    /// - Otherwise, a count and a reset, a window, or a word for what is counted is required. A used count is
    ///   sufficient only with a limit.
    /// - A limit with a reset is sufficient as well.
    ///
    /// | fields of a response | rate limit |
    /// |---|---|
    /// | `x-ratelimit-limit` | yes |
    /// | `x-acme-remaining` and `x-acme-reset` | yes |
    /// | `x-acme-requests-remaining` | yes |
    /// | `x-acme-limit` and `x-acme-reset` | yes |
    /// | `x-concurrency-limit` | yes |
    /// | `x-acme-remaining` | no: it may be the rest of anything |
    /// | `x-acme-limit` | no: it may be the size of a page |
    pub(super) fn is_credible(&self) -> bool {
        // A count without a limit, or a time alone, occurs in fields that have nothing to do with limits.
        let limited = self.limit.is_some() || self.unlimited;
        let counted = self.remaining.is_some() || limited && self.used.is_some();
        let timed = self.has_reset() || self.window.is_some() || self.dimension.window().is_some();
        let named = self.is_compound || self.dimension.counts_requests();
        // Unlike other limits, one on concurrency is not ambiguous: page sizes and disk quotas do not have it.
        let concurrent = Unit::of_dimension(&self.dimension) == Unit::ConcurrentRequests;
        !self.family.is_empty()
            || (counted && (timed || named))
            || (limited && (self.has_reset() || concurrent))
    }

    /// Returns whether the fields contain a reset or a window, but no count.
    pub(super) fn is_time_only(&self) -> bool {
        !self.has_counts() && (self.has_reset() || self.window.is_some())
    }

    /// Returns whether the fields contain a count or a policy.
    pub(super) fn has_counts(&self) -> bool {
        self.limit.is_some()
            || self.remaining.is_some()
            || self.used.is_some()
            || !self.policies.is_empty()
            || !self.limits_by_seconds.is_empty()
    }

    /// Returns whether nothing remains.
    pub(super) fn is_exhausted(&self) -> bool {
        self.remaining == Some(0)
    }

    /// Returns whether this may complete `other`: both have the same family, and this one has a shorter name. Not if
    /// both have a reset: then they are two quotas, each with its own.
    ///
    /// Fields without a family and without a dimension, such as a plain `reset`, complete nothing.
    pub(super) fn is_part_of(&self, other: &Self) -> bool {
        let of_one = self.family == other.family
            && (!self.family.is_empty() || !self.dimension.is_empty())
            && self.unit.is_none()
            && other.unit.is_none();
        of_one
            && other.dimension.starts_with(&self.dimension)
            && !(self.has_reset() && other.has_reset())
    }

    /// Returns whether this and `longer`, which has a longer name, are the limit of a quota and its remaining count.
    ///
    /// They are if each has exactly the value that the other one lacks, and no more remains than the limit allows.
    pub(super) fn complements(&self, longer: &Self) -> bool {
        // Neither has the value that the other one contributes, and they do not contradict each other.
        let halves = |limited: &Self, counted: &Self| {
            let both = limited.limit.zip(counted.remaining);
            both.is_some_and(|(limit, remaining)| remaining <= limit)
                && limited.remaining.is_none()
                && limited.used.is_none()
                && counted.limit.is_none()
        };
        self.is_part_of(longer)
            && self.dimension != longer.dimension
            && (halves(self, longer) || halves(longer, self))
    }

    /// Merges the values of the same quota under a shorter name. Existing values stay.
    pub(super) fn merge_counts_from(&mut self, other: &Self) {
        self.limit = self.limit.or(other.limit);
        self.remaining = self.remaining.or(other.remaining);
        self.rate = self.rate.or(other.rate);
        self.refill = self.refill.or(other.refill);
        self.merge_times_from(other);
    }

    /// Merges the times of the same quota under a shorter name. Existing values stay.
    pub(super) fn merge_times_from(&mut self, other: &Self) {
        if !self.has_reset() {
            self.reset_in = other.reset_in;
            self.reset_at = other.reset_at;
        }
        self.window = self.window.or(other.window);
    }

    /// Adds the value of one field. Ignores a malformed value.
    ///
    /// `scale` is the unit of a reset or a window in nanoseconds, if known. `reference` is the server's time. Fields
    /// that are not about a single quota are ignored: the caller has handled them.
    ///
    /// May be called for a repeated field. The table at [`QuotaFields`] shows which of several values applies.
    pub(super) fn set(
        &mut self,
        field: Field,
        scale: Option<u64>,
        value: &[u8],
        reference: SystemTime,
    ) {
        // Set before the value is added: a repeated field is a list as well.
        self.has_list |= value.contains(&b',') || self.has(field);
        match field {
            Field::Limit => self.set_limit(value),
            Field::Remaining => set_min(&mut self.remaining, numbers(value, remaining).min()),
            Field::Used => match by_seconds(value) {
                Some(pairs) => {
                    // Bounds the memory that one response can use.
                    let left = MAX_ITEMS.saturating_sub(self.used_by_seconds.len());
                    self.used_by_seconds.extend(pairs.into_iter().take(left));
                }
                None => set_max(&mut self.used, numbers(value, integer_part).max()),
            },
            Field::UsedOfLimit => {
                if let Some((used, limit)) = used_of_limit(value) {
                    set_max(&mut self.used, Some(used));
                    set_min(&mut self.limit, Some(limit));
                }
            }
            Field::Rate => self.rate = rate(value).or(self.rate),
            Field::RefillAmount => self.refill = rate(value).or(self.refill),
            Field::Reset => match ResetTime::parse_scaled(scale, value, reference) {
                Some(when) => self.set_reset(when),
                // Joined lines. Tried last, because dates contain commas.
                None => split_quoted(value, b',')
                    .filter_map(|item| ResetTime::parse_scaled(scale, item, reference))
                    .for_each(|when| self.set_reset(when)),
            },
            Field::ResetMillis => self.set(Field::Reset, Some(MILLI), value, reference),
            Field::Window => self.window = period(scale, value).or(self.window),
            Field::WindowMillis => self.set(Field::Window, Some(MILLI), value, reference),
            Field::Policy => self.add_policies(items(value)),
            Field::Name => {
                let name = std::str::from_utf8(value)
                    .ok()
                    .filter(|name| !name.is_empty());
                self.name = name.map(str::to_owned).or(self.name.take());
            }
            Field::RetryAfter
            | Field::RetryAfterMillis
            | Field::RetryPushback
            | Field::CategoryDelays
            | Field::Combined
            | Field::Ignored => {}
        }
    }

    /// Returns whether a value of the field was added before.
    fn has(&self, field: Field) -> bool {
        match field {
            Field::Limit => self.limit.is_some(),
            Field::Remaining => self.remaining.is_some(),
            Field::Used => self.used.is_some(),
            Field::Reset => self.has_reset(),
            _ => false,
        }
    }

    /// Adds a limit: a number; `100, 100;w=60, 5000;w=3600` (IETF drafts 01 to 03, §3.1: the limit and its policies);
    /// pairs; or the window (`1m`).
    fn set_limit(&mut self, value: &[u8]) {
        if let Some(pairs) = value.contains(&b':').then(|| by_seconds(value)).flatten() {
            let left = MAX_ITEMS.saturating_sub(self.limits_by_seconds.len());
            return self.limits_by_seconds.extend(pairs.into_iter().take(left));
        }
        // The first item decides: a limit starts with a digit, `unlimited` does not.
        let first = split_quoted(value, b',').next().unwrap_or_default();
        let bare = split_quoted(first, b';').next().unwrap_or_default();
        if !starts_with_digit(first) {
            self.unlimited |= is_unlimited(bare);
            return;
        }
        let Some(limit) = numbers(value, integer_part).next() else {
            return self.set_rate(value);
        };
        set_min(&mut self.limit, Some(limit));
        let policies = split_quoted(value, b',').filter(|policy| policy.contains(&b';'));
        self.add_policies(policies.flat_map(|policy| items(&policy.to_ascii_lowercase())));
    }

    /// Adds only a window (`1m`), or a count with its window in words: `100 requests per minute`, `60/min`.
    fn set_rate(&mut self, value: &[u8]) {
        if let Some(window) = duration(value) {
            self.window = Some(window);
            return;
        }
        let digits = value
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (count, words) = value.split_at(digits);
        let words = std::str::from_utf8(words).ok();
        if let Some(window) = words.and_then(|words| window_of([words].into_iter())) {
            set_min(&mut self.limit, integer_part(count));
            self.window = window_from_seconds(window);
        }
    }

    /// Adds policies, up to [`MAX_ITEMS`] in total.
    fn add_policies(&mut self, policies: impl IntoIterator<Item = Item>) {
        let left = MAX_ITEMS.saturating_sub(self.policies.len());
        self.policies.extend(policies.into_iter().take(left));
    }

    /// Adds a reset. The latest one applies.
    fn set_reset(&mut self, when: ResetTime) {
        match when {
            ResetTime::Relative(wait) => set_max(&mut self.reset_in, Some(wait)),
            ResetTime::Absolute(wait) => set_max(&mut self.reset_at, Some(wait)),
        }
    }
}

/// Returns the items of a field whose lines may have been joined, without their parameters (Docker Hub sends
/// `76;w=21600`).
fn numbers(value: &[u8], read: fn(&[u8]) -> Option<u64>) -> impl Iterator<Item = u64> {
    split_quoted(value, b',')
        .filter_map(|item| split_quoted(item, b';').next())
        .filter_map(read)
}

/// Returns whether the value starts with an ASCII digit.
fn starts_with_digit(value: &[u8]) -> bool {
    value.first().is_some_and(u8::is_ascii_digit)
}

/// Parses a rate; `None` if it is not positive. A rate of zero would mean that no request is ever allowed.
fn rate(value: &[u8]) -> Option<f64> {
    Some(Number::parse(value)?.as_f64()).filter(|rate| *rate > 0.0)
}

/// Keeps the smaller value. A missing value is ignored.
fn set_min<T: Ord>(known: &mut Option<T>, candidate: Option<T>) {
    if let Some(candidate) = candidate
        && known.as_ref().is_none_or(|known| candidate < *known)
    {
        *known = Some(candidate);
    }
}

/// Keeps the larger value. A missing value is ignored.
fn set_max<T: Ord>(known: &mut Option<T>, candidate: Option<T>) {
    if candidate > *known {
        *known = candidate;
    }
}
