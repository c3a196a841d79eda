//! One quota while it is put together from its fields.

use std::time::{Duration, SystemTime};

use super::{
    Field, Limit, Unit,
    name::window_of,
    structured::{Item, MOST_ITEMS, items},
    value::{When, by_seconds, remaining, split, used_of_limit},
};
use crate::retry_after::{LONGEST, Number};

/// What the fields of one family say of one dimension. Of a field that is there more than once, the least generous
/// value counts.
#[derive(Debug, Default)]
pub(super) struct Quota<'a> {
    family: &'a str,
    dimension: &'a str,
    pub(super) name: Option<String>,
    pub(super) unit: Option<Unit>,
    limit: Option<u64>,
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
}

impl<'a> Quota<'a> {
    pub(super) fn new(family: &'a str, dimension: &'a str) -> Self {
        Self {
            family,
            dimension,
            ..Self::default()
        }
    }

    pub(super) fn is(&self, family: &str, dimension: &str) -> bool {
        // Those with a unit of their own are told by one field alone.
        self.family == family && self.dimension == dimension && self.unit.is_none()
    }

    pub(super) fn has_reset(&self) -> bool {
        self.reset_in.is_some() || self.reset_at.is_some()
    }

    /// The reset as a date and as a length of time; of a quota that is used up, `Retry-After` is the latter.
    pub(super) fn told_twice(&self, asked: Option<Duration>) -> Option<(Duration, Duration)> {
        let asked = asked.filter(|_| self.remaining == Some(0));
        Some((self.reset_at?, self.reset_in.or(asked)?))
    }

    /// Whether a bare number is the limit: `X-Rate-Limit: 700`, `X-HubSpot-RateLimit-Daily: 250000`. Under other names
    /// it could be anything.
    pub(super) fn may_be_bare(&self) -> bool {
        self.dimension.is_empty() || window_of(self.dimension).is_some()
    }

    /// Takes in what one field says; nothing, if it is malformed.
    pub(super) fn put(&mut self, field: Field, value: &[u8], reference: SystemTime) {
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
            Field::Reset => match When::parse(value, reference) {
                Some(when) => self.put_reset(when),
                // Lines that have been joined; dates have commas of their own.
                None => split(value, b',')
                    .filter_map(|item| When::parse(item, reference))
                    .for_each(|when| self.put_reset(when)),
            },
            Field::ResetMillis => When::parse_millis(value)
                .into_iter()
                .for_each(|when| self.put_reset(when)),
            Field::Window => self.window = whole(value).and_then(seconds).or(self.window),
            Field::WindowMillis => {
                let window = whole(value).map(|millis| Duration::from_millis(millis).min(LONGEST));
                self.window = window.filter(|window| !window.is_zero()).or(self.window);
            }
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

    /// A number; `100, 100;w=60, 5000;w=3600` (IETF drafts 01 to 03, §3.1: the limit and its policies); or pairs.
    fn put_limit(&mut self, value: &[u8]) {
        if let Some(pairs) = value.contains(&b':').then(|| by_seconds(value)).flatten() {
            let room = MOST_ITEMS.saturating_sub(self.limits_by_seconds.len());
            return self.limits_by_seconds.extend(pairs.into_iter().take(room));
        }
        let first = numbers(value, whole).next();
        let Some(first) =
            first.filter(|_| split(value, b',').next().is_some_and(starts_with_digit))
        else {
            return;
        };
        least(&mut self.limit, Some(first));
        let policies = split(value, b',').filter(|policy| policy.contains(&b';'));
        self.put_policies(policies.flat_map(|policy| items(&policy.to_ascii_lowercase())));
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

    /// The quotas that this turns out to be: one, one for each policy that has a name, or one for each pair.
    pub(super) fn into_limits(mut self) -> Vec<Limit> {
        let unit = self
            .unit
            .unwrap_or_else(|| Unit::of_dimension(self.dimension));
        let pairs: Vec<_> = self.limits_by_seconds.drain(..).collect();
        let mut limits: Vec<Limit> = pairs
            .into_iter()
            .map(|(limit, window)| Limit {
                limit: Some(limit),
                remaining: self.used_in(window).map(|used| limit.saturating_sub(used)),
                window: seconds(window),
                unit,
                ..Limit::default()
            })
            .collect();

        let mut policies = std::mem::take(&mut self.policies);
        let base = self.base(unit, &mut policies);
        limits.extend(base.says_something().then_some(base));
        // What remains of a quota, and then the policy of the same name.
        let (states, mut policies): (Vec<_>, Vec<_>) = policies
            .into_iter()
            .partition(|item| item.remaining.is_some());
        for state in states {
            let same = |policy: &Item| policy.name == state.name && policy.name.is_some();
            let policy = policies.iter().position(same).map(|at| policies.remove(at));
            limits.push(named(&state, policy.as_ref()));
        }
        limits.extend(
            policies
                .iter()
                .filter(|item| item.quota.is_some())
                .map(|policy| named(policy, None)),
        );
        limits
    }

    /// What the fields say that are not structured. Takes the policy with the same number out of `policies`.
    fn base(&mut self, unit: Unit, policies: &mut Vec<Item>) -> Limit {
        let used = self.used;
        let limit = self
            .limit
            .or_else(|| Some(self.remaining?.saturating_add(used?)));
        let own = |item: &Item| item.name.is_none() && item.quota == limit;
        let told = policies
            .iter()
            .filter(|item| own(item))
            .find_map(|item| item.window);
        policies.retain(|item| !own(item) || (limit.is_none() && item.quota.is_some()));
        let window = self
            .window
            .or_else(|| told.and_then(seconds))
            .or_else(|| window_of(self.dimension).and_then(seconds));
        let per_second = |amount: f64| Some(amount / window.map(|window| window.as_secs_f64())?);
        let dimension = (!self.dimension.is_empty()).then(|| self.dimension.to_owned());
        Limit {
            name: self.name.take().or(dimension),
            unit,
            limit,
            remaining: self
                .remaining
                .or_else(|| Some(limit?.saturating_sub(used?))),
            // A length of time does not depend on any clock.
            reset: self.reset_in.or(self.reset_at),
            window,
            refill: self.rate.or_else(|| per_second(self.refill?)),
            partition_key: None,
        }
    }

    fn used_in(&self, window: u64) -> Option<u64> {
        let mut used = self.used_by_seconds.iter();
        used.find(|(_, seconds)| *seconds == window)
            .map(|(used, _)| *used)
    }
}

/// A quota of IETF drafts 08 to 10, from its state and its policy.
fn named(state: &Item, policy: Option<&Item>) -> Limit {
    let either = |of: fn(&Item) -> Option<u64>| of(state).or_else(|| of(policy?));
    let unit = state
        .unit
        .as_deref()
        .or(policy.and_then(|policy| policy.unit.as_deref()));
    let key = state
        .partition_key
        .as_ref()
        .or(policy.and_then(|p| p.partition_key.as_ref()));
    Limit {
        name: state.name.clone(),
        unit: unit.map_or_else(Unit::default, Unit::of_policy),
        limit: either(|item| item.quota),
        remaining: state.remaining,
        reset: state
            .reset
            .map(|reset| Duration::from_secs(reset).min(LONGEST)),
        window: either(|item| item.window).and_then(seconds),
        refill: None,
        partition_key: key.cloned(),
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

fn whole(value: &[u8]) -> Option<u64> {
    Some(Number::parse(value)?.whole)
}

fn rate(value: &[u8]) -> Option<f64> {
    Some(Number::parse(value)?.as_f64()).filter(|rate| *rate > 0.0)
}

/// A window of zero would be no window.
fn seconds(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds).min(LONGEST))
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
