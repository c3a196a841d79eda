//! What the store has granted this process of one window.

use tokio::time::Instant;

use crate::rate_limit_retry::store::{SharedWindow, WindowId, WindowReport};

/// This process's part of a window that a fleet shares, between two reports to the store.
///
/// A request takes its amount from the grant, or else from the overdraft. A grant is valid until the window ends, the
/// store no longer knows the window, or the store fails.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grant {
    /// Units that may still be used without another report.
    pub(super) granted: u64,
    /// Units that may be used beyond the grant before the store's next response, because enough is free.
    pub(super) overdraft: u64,
    /// The time until which the grant is valid. `None` while the store does not know the window.
    pub(super) expires: Option<Instant>,
    /// Whether less is free than is reserved: then the end of a request is reported soon, because others wait for it.
    pub(super) scarce: bool,
    /// Whether the store reports that nothing remains.
    pub(super) exhausted: bool,
    /// Units for which the last report wanted room.
    pub(super) wanted: u64,
    /// Whether the last report requested more than the grant at that time.
    pub(super) is_awaited: bool,
    /// Whether something about the window has changed that the store does not know.
    pub(super) has_update: bool,
    /// Units used since the last report that no announcement includes.
    pub(super) used: u64,
    /// Units that the last report says are used, until the store has responded to it. A repeated report says the same.
    pub(super) unconfirmed: u64,
    /// Whether the last report had no name or no room for the window, so that only this process knows it.
    pub(super) is_excluded: bool,
}

impl Grant {
    /// Returns whether the other processes are known, so that all that the window loses is this fleet's.
    pub(super) fn is_synced(&self) -> bool {
        self.expires.is_some()
    }

    /// Returns the time until which the grant is valid, if it is now.
    pub(super) fn valid_until(&self, now: Instant) -> Option<Instant> {
        self.expires.filter(|until| now < *until)
    }

    /// Returns whether a request that needs this amount may be sent.
    pub(super) fn allows(&self, amount: u64) -> bool {
        self.granted >= amount || self.granted + self.overdraft >= amount
    }

    /// Returns the time until which a request that needs this amount waits for a grant; `None` if it need not.
    pub(super) fn blocks(&self, amount: u64, now: Instant) -> Option<Instant> {
        self.valid_until(now).filter(|_| !self.allows(amount))
    }

    /// Takes the amount of a request that is sent. Returns whether the grant did not suffice.
    pub(super) fn take(&mut self, amount: u64) -> bool {
        let beyond = amount.saturating_sub(self.granted);
        self.granted = self.granted.saturating_sub(amount);
        self.overdraft = self.overdraft.saturating_sub(beyond);
        beyond > 0
    }

    /// Returns an amount to the grant, for a window in which only requests in flight count.
    pub(super) fn give_back(&mut self, amount: u64) {
        if self.is_synced() {
            self.granted += amount;
        }
    }

    /// Ends the window: without one, no grant applies.
    pub(super) fn end(&mut self) {
        *self = Self {
            has_update: self.has_update,
            used: self.used,
            unconfirmed: self.unconfirmed,
            is_excluded: self.is_excluded,
            ..Self::default()
        };
    }

    /// Returns the report of this window, where requests in flight have reserved `in_flight`, requests to come need
    /// `demand`, and one request costs `cost`.
    ///
    /// It gives back what is not needed: the reservation is smaller by it.
    pub(super) fn report(
        &mut self,
        id: WindowId,
        in_flight: u64,
        demand: u64,
        cost: u64,
        now: Instant,
    ) -> WindowReport {
        if self.valid_until(now).is_none() {
            self.end();
        }
        self.granted = self.granted.min(demand);
        self.wanted = demand;
        let mut report = WindowReport::new(id);
        report.reserved = in_flight.saturating_add(self.granted);
        report.wanted = demand - self.granted;
        report.minimum = cost.saturating_sub(self.granted).max(1);
        (self.is_awaited, self.has_update) = (report.wanted > 0, false);
        self.is_excluded = false;
        report
    }

    /// Returns the units that a report says are used. `repeats`: it repeats a lost one.
    pub(super) fn take_used(&mut self, repeats: bool) -> u64 {
        if !repeats {
            self.unconfirmed = std::mem::take(&mut self.used);
        }
        self.unconfirmed
    }

    /// Records that a report does not have the window.
    pub(super) fn exclude(&mut self) {
        self.end();
        (self.has_update, self.is_excluded) = (false, true);
    }

    /// Applies what the store responds. All `processes` together may overdraw a part of what is free.
    pub(super) fn apply(&mut self, window: &SharedWindow, processes: u32, until: Instant) {
        let free = window.remaining.saturating_sub(window.reserved);
        self.expires = Some(until);
        self.granted = self.granted.saturating_add(window.granted);
        self.scarce = free < window.reserved;
        self.overdraft = if self.scarce {
            0
        } else {
            free / u64::from(processes.max(1)) / OVERDRAFT_DIVISOR
        };
        self.exhausted = window.remaining == 0;
    }
}

/// Divisor of the overdraft: all processes together may use this part of what is free before the store responds.
const OVERDRAFT_DIVISOR: u64 = 4;
