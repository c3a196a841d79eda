//! One quota while it is put together from its fields.

mod limits;

use std::time::{Duration, SystemTime};

use super::{
    Field, Unit,
    columns::{seconds, whole},
    name::Dimension,
    structured::{Item, MOST_ITEMS, items},
    value::{When, by_seconds, duration, is_unlimited, period, remaining, split, used_of_limit},
    words::window_of,
};
use crate::{
    retry_after::{MILLI, Number},
    steps::examined,
};

/// What the fields of one family say of one dimension. Of a field that is there more than once, the least generous
/// value counts, unless several fields have as many values: then each position is a quota.
#[derive(Debug, Default)]
pub(super) struct Quota<'a> {
    pub(super) family: &'a str,
    pub(super) dimension: Dimension<'a>,
    pub(super) name: Option<String>,
    pub(super) unit: Option<Unit>,
    /// A name has the word `limit` or `quota` besides its role.
    pub(super) is_compound: bool,
    limit: Option<u64>,
    unlimited: bool,
    remaining: Option<u64>,
    used: Option<u64>,
    reset_in: Option<Duration>,
    reset_at: Option<Duration>,
    window: Option<Duration>,
    rate: Option<f64>,
    refill: Option<f64>,
    policies: Vec<Item>,
    /// `limit:seconds` and `used:seconds`.
    limits_by_seconds: Vec<(u64, u64)>,
    used_by_seconds: Vec<(u64, u64)>,
    /// A field has several values, in one line or in several.
    pub(super) has_list: bool,
}

impl<'a> Quota<'a> {
    pub(super) fn new(family: &'a str, dimension: Dimension<'a>) -> Self {
        Self {
            family,
            dimension,
            ..Self::default()
        }
    }

    pub(super) fn is(&self, family: &str, dimension: &Dimension<'_>) -> bool {
        examined(1 + self.dimension.words().count());
        // Those with a unit of their own are told by one field alone.
        self.family == family && self.dimension == *dimension && self.unit.is_none()
    }

    pub(super) fn has_reset(&self) -> bool {
        self.reset_in.is_some() || self.reset_at.is_some()
    }

    /// The reset as a date and as a length of time; of a quota that is used up, `Retry-After` is the latter.
    pub(super) fn told_twice(&self, asked: Option<Duration>) -> Option<(Duration, Duration)> {
        let asked = asked.filter(|_| self.remaining == Some(0));
        Some((self.reset_at?, self.reset_in.or(asked)?))
    }

    /// Whether this is about a rate limit. Names that say so are believed; of others, together, it takes a count, and a
    /// time or a word that says what is counted.
    pub(super) fn is_credible(&self) -> bool {
        let limited = self.limit.is_some() || self.unlimited;
        let counted = self.remaining.is_some() || limited && self.used.is_some();
        let timed = self.has_reset() || self.window.is_some() || self.dimension.window().is_some();
        let named = self.is_compound || self.dimension.counts_requests();
        !self.family.is_empty() || (counted && (timed || named)) || (limited && self.has_reset())
    }

    /// Whether this says when a quota is replenished, and nothing of how much there is.
    pub(super) fn is_only_a_time(&self) -> bool {
        !self.counts() && (self.has_reset() || self.window.is_some())
    }

    /// Whether this says how much there is of a quota.
    pub(super) fn counts(&self) -> bool {
        self.limit.is_some()
            || self.remaining.is_some()
            || self.used.is_some()
            || !self.policies.is_empty()
            || !self.limits_by_seconds.is_empty()
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.remaining == Some(0)
    }

    /// Whether this may be a time of `other`, which lacks it: of the same family, and by a shorter name.
    pub(super) fn is_part_of(&self, other: &Self) -> bool {
        let of_one = self.family == other.family
            && (!self.family.is_empty() || !self.dimension.is_empty())
            && self.unit.is_none()
            && other.unit.is_none();
        of_one
            && other.dimension.starts_with(&self.dimension)
            && !(self.has_reset() && other.has_reset())
    }

    /// Whether this and `longer`, which has a longer name, are the limit of a quota and what remains of it.
    pub(super) fn completes(&self, longer: &Self) -> bool {
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

    /// Takes over what a quota says that is the same under a shorter name.
    pub(super) fn take_counts(&mut self, other: &Self) {
        self.limit = self.limit.or(other.limit);
        self.remaining = self.remaining.or(other.remaining);
        self.rate = self.rate.or(other.rate);
        self.refill = self.refill.or(other.refill);
        self.take_times(other);
    }

    /// Takes over the times of a quota that is the same under a shorter name.
    pub(super) fn take_times(&mut self, other: &Self) {
        if !self.has_reset() {
            self.reset_in = other.reset_in;
            self.reset_at = other.reset_at;
        }
        self.window = self.window.or(other.window);
    }

    /// Takes in what one field says; nothing, if it is malformed.
    pub(super) fn put(
        &mut self,
        field: Field,
        scale: Option<u64>,
        value: &[u8],
        reference: SystemTime,
    ) {
        self.has_list |= value.contains(&b',') || self.has(field);
        match field {
            Field::Limit => self.put_limit(value),
            Field::Remaining => least(&mut self.remaining, numbers(value, remaining).min()),
            Field::Used => match by_seconds(value) {
                Some(pairs) => {
                    let room = MOST_ITEMS.saturating_sub(self.used_by_seconds.len());
                    self.used_by_seconds.extend(pairs.into_iter().take(room));
                }
                None => most(&mut self.used, numbers(value, whole).max()),
            },
            Field::UsedOfLimit => {
                if let Some((used, limit)) = used_of_limit(value) {
                    most(&mut self.used, Some(used));
                    least(&mut self.limit, Some(limit));
                }
            }
            Field::Rate => self.rate = rate(value).or(self.rate),
            Field::Refill => self.refill = rate(value).or(self.refill),
            Field::Reset => match When::parse_in(scale, value, reference) {
                Some(when) => self.put_reset(when),
                // Lines that have been joined; dates have commas of their own.
                None => split(value, b',')
                    .filter_map(|item| When::parse_in(scale, item, reference))
                    .for_each(|when| self.put_reset(when)),
            },
            Field::ResetMillis => self.put(Field::Reset, Some(MILLI), value, reference),
            Field::Window => self.window = period(scale, value).or(self.window),
            Field::WindowMillis => self.put(Field::Window, Some(MILLI), value, reference),
            Field::Policy => self.put_policies(items(value)),
            Field::Name => {
                let name = std::str::from_utf8(value)
                    .ok()
                    .filter(|name| !name.is_empty());
                self.name = name.map(str::to_owned).or(self.name.take());
            }
            Field::RetryAfter
            | Field::RetryAfterMillis
            | Field::Pushback
            | Field::Cooldowns
            | Field::Whole
            | Field::Ignored => {}
        }
    }

    /// Whether a line of the field has been taken in.
    fn has(&self, field: Field) -> bool {
        match field {
            Field::Limit => self.limit.is_some(),
            Field::Remaining => self.remaining.is_some(),
            Field::Used => self.used.is_some(),
            Field::Reset => self.has_reset(),
            _ => false,
        }
    }

    /// A number; `100, 100;w=60, 5000;w=3600` (IETF drafts 01 to 03, §3.1: the limit and its policies); pairs; or the
    /// window (`1m`).
    fn put_limit(&mut self, value: &[u8]) {
        if let Some(pairs) = value.contains(&b':').then(|| by_seconds(value)).flatten() {
            let room = MOST_ITEMS.saturating_sub(self.limits_by_seconds.len());
            return self.limits_by_seconds.extend(pairs.into_iter().take(room));
        }
        let first = split(value, b',').next().unwrap_or_default();
        let bare = split(first, b';').next().unwrap_or_default();
        if !starts_with_digit(first) {
            self.unlimited |= is_unlimited(bare);
            return;
        }
        let Some(limit) = numbers(value, whole).next() else {
            return self.put_rate(value);
        };
        least(&mut self.limit, Some(limit));
        let policies = split(value, b',').filter(|policy| policy.contains(&b';'));
        self.put_policies(policies.flat_map(|policy| items(&policy.to_ascii_lowercase())));
    }

    /// Just the window (`1m`), or a count with its window in words: `100 requests per minute`, `60/min`.
    fn put_rate(&mut self, value: &[u8]) {
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
            least(&mut self.limit, whole(count));
            self.window = seconds(window);
        }
    }

    fn put_policies(&mut self, policies: impl IntoIterator<Item = Item>) {
        let room = MOST_ITEMS.saturating_sub(self.policies.len());
        self.policies.extend(policies.into_iter().take(room));
    }

    fn put_reset(&mut self, when: When) {
        match when {
            When::In(wait) => most(&mut self.reset_in, Some(wait)),
            When::At(wait) => most(&mut self.reset_at, Some(wait)),
        }
    }
}

/// The items of a field whose lines may have been joined, without their parameters (Docker Hub sends `76;w=21600`).
fn numbers(value: &[u8], read: fn(&[u8]) -> Option<u64>) -> impl Iterator<Item = u64> {
    split(value, b',')
        .filter_map(|item| split(item, b';').next())
        .filter_map(read)
}

fn starts_with_digit(value: &[u8]) -> bool {
    value.first().is_some_and(u8::is_ascii_digit)
}

fn rate(value: &[u8]) -> Option<f64> {
    Some(Number::parse(value)?.as_f64()).filter(|rate| *rate > 0.0)
}

fn least<T: Ord>(known: &mut Option<T>, told: Option<T>) {
    if let Some(told) = told
        && known.as_ref().is_none_or(|known| told < *known)
    {
        *known = Some(told);
    }
}

fn most<T: Ord>(known: &mut Option<T>, told: Option<T>) {
    if told > *known {
        *known = told;
    }
}
