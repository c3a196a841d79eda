//! The cost of a request, in the units of the server's quotas.
//!
//! Most quotas count requests. Some count other units: tokens of a language model, points of a GraphQL query, bytes. A
//! [`Cost`] contains such amounts, as estimated before a request is sent or as reported after its response.

use std::{borrow::Cow, fmt, sync::Arc};

/// The cost of a request: an amount for each unit. Default: one request; the amounts of other units are not known.
///
/// An amount applies to the quotas whose name is its unit or ends with it as a word: `tokens` to
/// `x-ratelimit-remaining-tokens`, to the policy `"tokens"` and to `input-tokens`. If several units match, the longest
/// applies. `requests` applies to all quotas of requests, whatever their names are.
///
/// At most 8 units, with names of at most 64 bytes; others are ignored. Cheap to clone.
///
/// # Where it is used
///
/// - [`RateLimitRetryLayerBuilder::cost`](super::RateLimitRetryLayerBuilder::cost) returns it before a request is sent.
/// - [`CostUsed::set`](super::CostUsed::set) reports it from a layer below, also after a streamed response has ended.
/// - As an extension of a response, set by a layer below, it replaces what was reserved for the request.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::Cost;
///
/// // A completion of at most 800 tokens for a prompt of about 400.
/// let cost = Cost::new().with("tokens", 1_200);
///
/// assert_eq!(cost.amount("tokens"), Some(1_200));
/// assert_eq!(cost.amount("requests"), Some(1));
/// assert_eq!(cost.amount("points"), None);
/// ```
#[doc(alias("LLM", "tokens per minute", "GraphQL"))]
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Cost(Option<Arc<Vec<Amount>>>);

/// The amount of one unit.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Amount {
    /// The unit's name.
    unit: Cow<'static, str>,
    /// The number of units.
    amount: u64,
}

impl Cost {
    /// The cost of one request, without other units.
    pub(crate) const ONE: Self = Self(None);

    /// Creates the cost of one request, without other units.
    #[must_use]
    pub fn new() -> Self {
        Self::ONE
    }

    /// Adds a unit, or replaces its amount. The amount of `requests` is 1 by default; set it for a batch that counts as
    /// several requests.
    #[must_use]
    pub fn with(mut self, unit: impl Into<Cow<'static, str>>, amount: u64) -> Self {
        let unit = unit.into();
        if unit.len() > MAX_UNIT_LEN {
            return self;
        }
        let amounts = Arc::make_mut(self.0.get_or_insert_default());
        if let Some(known) = amounts.iter_mut().find(|known| known.unit == unit) {
            known.amount = amount;
        } else if amounts.len() < MAX_UNITS {
            amounts.push(Amount { unit, amount });
        }
        self
    }

    /// Returns the amount of a unit; `None` if it is not known.
    #[must_use]
    pub fn amount(&self, unit: &str) -> Option<u64> {
        self.amount_of(unit)
            .or_else(|| (unit == REQUESTS).then_some(1))
    }

    /// Returns the amount of a unit, if it was set.
    pub(crate) fn amount_of(&self, unit: &str) -> Option<u64> {
        let known = self.amounts().find(|(name, _)| *name == unit);
        known.map(|(_, amount)| amount)
    }

    /// Returns the unit that applies to a quota with this name, and its amount: the unit of the same name, or else the
    /// longest that consists of the name's last words.
    pub(crate) fn unit_for(&self, quota: &str) -> Option<(&str, u64)> {
        let ends_with = |unit: &str| {
            let before = quota.strip_suffix(unit);
            before.is_some_and(|before| before.is_empty() || before.ends_with(['-', '_', ' ']))
        };
        self.amounts()
            .filter(|(unit, _)| ends_with(unit))
            .max_by_key(|(unit, _)| unit.len())
    }

    /// Returns the number of requests that the request counts as.
    pub(crate) fn requests(&self) -> u64 {
        self.amount(REQUESTS).unwrap_or(1)
    }

    /// Returns the same units with the amount 0, for a request that no quota has counted.
    pub(crate) fn refunded(&self) -> Self {
        let mut refunded = self.clone();
        if let Some(amounts) = &mut refunded.0 {
            for known in Arc::make_mut(amounts) {
                known.amount = 0;
            }
        }
        refunded
    }

    /// Iterates over the units that were set, with their amounts.
    pub(crate) fn amounts(&self) -> impl Iterator<Item = (&str, u64)> {
        let amounts = self.0.as_deref().map(Vec::as_slice).unwrap_or_default();
        amounts.iter().map(|known| (&*known.unit, known.amount))
    }
}

impl fmt::Debug for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = (self.requests() == 1).then_some((REQUESTS, 1));
        let set = self.amounts().filter(|amount| Some(*amount) != requests);
        f.debug_map().entries(requests).entries(set).finish()
    }
}

/// The unit of quotas that count requests.
const REQUESTS: &str = "requests";
/// Maximum number of units: twice as many as the field sets of known servers have.
const MAX_UNITS: usize = 8;
/// Maximum length of a unit's name, in bytes. Longer than the names of all known quotas.
const MAX_UNIT_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_one_request_unless_it_says_more() {
        assert_eq!(Cost::new().requests(), 1);
        assert_eq!(Cost::new().with("requests", 20).requests(), 20);
        assert_eq!(
            Cost::new()
                .with("tokens", 5)
                .with("tokens", 7)
                .amount("tokens"),
            Some(7)
        );
    }

    #[test]
    fn an_amount_applies_to_quotas_that_end_with_its_words() {
        let cost = Cost::new().with("tokens", 5).with("input-tokens", 3);

        assert_eq!(cost.unit_for("input-tokens"), Some(("input-tokens", 3)));
        assert_eq!(cost.unit_for("output-tokens"), Some(("tokens", 5)));
        assert_eq!(cost.unit_for("tokens"), Some(("tokens", 5)));
        assert_eq!(cost.unit_for("cryptotokens"), None);
        assert_eq!(cost.unit_for("requests"), None);
    }

    #[test]
    fn a_refund_has_the_same_units_without_amounts() {
        let refunded = Cost::new().with("tokens", 5).refunded();

        assert_eq!(refunded.amount("tokens"), Some(0));
        assert_eq!(Cost::ONE.refunded(), Cost::ONE);
    }

    #[test]
    fn a_unit_with_a_long_name_is_ignored() {
        let cost = Cost::new().with("u".repeat(10_000), 5);

        assert_eq!(cost, Cost::ONE);
    }

    #[test]
    fn the_number_of_units_is_bounded() {
        let cost = (0..10_000).fold(Cost::new(), |cost, n| cost.with(n.to_string(), n));

        assert_eq!(cost.amounts().count(), MAX_UNITS);
    }
}
