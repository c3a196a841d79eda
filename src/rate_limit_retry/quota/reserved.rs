//! What requests have reserved of each unit and not settled, and what the settled ones were charged.

use std::collections::BTreeMap;

use crate::rate_limit_retry::cost::Cost;

/// The sums of the reserved and of the charged amounts, by unit.
///
/// A unit has a reserved sum while at least one request reserves an amount of it. The number of reserved sums is at
/// most the number of units of all unsettled requests.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    /// What is reserved.
    open: BTreeMap<Box<str>, Sum>,
    /// What settled requests were charged, of at most [`MAX_CHARGED_UNITS`] units.
    charged: BTreeMap<Box<str>, u64>,
}

/// The reserved amount of one unit.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    /// The sum of the amounts. Wider than one amount, so that it cannot overflow.
    amount: u128,
    /// Number of reservations that the sum contains.
    reservations: u64,
}

impl Reserved {
    /// Adds the amounts of a cost.
    pub(super) fn add(&mut self, cost: &Cost) {
        for (unit, amount) in cost.amounts() {
            // Not `entry` at first: it would allocate the name of a known unit.
            let sum = match self.open.get_mut(unit) {
                Some(sum) => sum,
                None => self.open.entry(unit.into()).or_default(),
            };
            sum.amount = sum.amount.saturating_add(amount.into());
            sum.reservations = sum.reservations.saturating_add(1);
        }
    }

    /// Subtracts the amounts of a cost that was added before. Never goes below zero.
    pub(super) fn release(&mut self, cost: &Cost) {
        for (unit, amount) in cost.amounts() {
            let Some(sum) = self.open.get_mut(unit) else {
                continue;
            };
            sum.amount = sum.amount.saturating_sub(amount.into());
            sum.reservations = sum.reservations.saturating_sub(1);
            if sum.reservations == 0 {
                self.open.remove(unit);
            }
        }
    }

    /// Adds to what settled requests were charged of a unit.
    pub(super) fn charge(&mut self, unit: &str, amount: u64) {
        if let Some(charged) = self.charged.get_mut(unit) {
            *charged = charged.saturating_add(amount);
        } else if self.charged.len() < MAX_CHARGED_UNITS {
            self.charged.insert(unit.into(), amount);
        }
    }

    /// Returns the reserved amount of a unit.
    pub(crate) fn amount(&self, unit: &str) -> u64 {
        let sum = self.open.get(unit).copied().unwrap_or_default();
        u64::try_from(sum.amount).unwrap_or(u64::MAX)
    }

    /// Returns the number of requests that have reserved an amount of a unit.
    pub(super) fn requests(&self, unit: &str) -> u32 {
        let sum = self.open.get(unit).copied().unwrap_or_default();
        u32::try_from(sum.reservations).unwrap_or(u32::MAX)
    }

    /// Returns whether nothing is reserved.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Iterates over the units with a reservation, with the reserved amounts.
    pub(crate) fn amounts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.open.keys().map(|unit| (&**unit, self.amount(unit)))
    }

    /// Iterates over the units of which something was charged, with the charged amounts.
    pub(crate) fn all_charged(&self) -> impl Iterator<Item = (&str, u64)> {
        self.charged.iter().map(|(unit, amount)| (&**unit, *amount))
    }
}

/// Maximum number of units whose charges are summed. Bounds the memory of a partition whose requests report a new unit
/// each time; a server has a handful.
const MAX_CHARGED_UNITS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_released() {
        let mut reserved = Reserved::default();
        let (small, large) = (
            Cost::new().with("tokens", 10),
            Cost::new().with("tokens", 2_000).with("points", 3),
        );
        reserved.add(&small);
        reserved.add(&large);
        assert_eq!(reserved.amount("tokens"), 2_010);

        reserved.release(&large);
        assert_eq!(reserved.amount("tokens"), 10);
        assert_eq!(reserved.amount("points"), 0);

        reserved.release(&small);
        assert!(reserved.is_empty());
    }

    #[test]
    fn the_largest_amounts_neither_overflow_nor_go_below_zero() {
        let mut reserved = Reserved::default();
        let huge = Cost::new().with("tokens", u64::MAX);
        for _ in 0..3 {
            reserved.add(&huge);
        }
        assert_eq!(reserved.amount("tokens"), u64::MAX);

        for _ in 0..3 {
            reserved.release(&huge);
        }
        reserved.release(&huge);

        assert!(reserved.is_empty());
    }

    #[test]
    fn units_are_forgotten_once_nothing_reserves_them() {
        let mut reserved = Reserved::default();
        for name in 0..10_000 {
            let cost = Cost::new().with(name.to_string(), 1);
            reserved.add(&cost);
            reserved.release(&cost);
            reserved.charge(&name.to_string(), 1);
        }

        assert!(reserved.is_empty());
        assert_eq!(reserved.all_charged().count(), MAX_CHARGED_UNITS);
    }
}
