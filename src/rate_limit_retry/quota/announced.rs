//! The window that the server announces: limit, remaining units and reset.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    admit::SendTime,
    refill::{Refill, as_f64},
    tuning::{
        HINT_RESOLUTION, MIN_EVIDENCE, NEARLY_ALL, RESET_TOLERANCE, TIMER_RESOLUTION, USUAL_WINDOW,
    },
};
use crate::{
    clock::add_capped,
    rate_limit_retry::{headers::Limit, store::SharedWindow},
};

/// An announced window.
///
/// Responses overtake each other and may be about an earlier or a later window, so that each announcement is weighed
/// by the number of its request and by its reset.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnnouncedWindow {
    /// The limit, if it is announced.
    pub(super) limit: Option<u64>,
    /// Remaining units by the last announcement: requests, or what the quota counts otherwise.
    pub(super) remaining: u64,
    /// Units debited here since the last announcement, for requests whose responses announced nothing.
    debits: u64,
    /// Whether requests without an announcement are not debited: more of them were accepted than remained.
    debits_disabled: bool,
    /// The reset by the last announcement.
    pub(super) reset_at: Option<Instant>,
    /// The reset by the first announcement of the window.
    first_reset: Option<Instant>,
    /// The latest reset that was announced.
    pub(super) latest_reset: Option<Instant>,
    /// The number of the latest request whose response was believed.
    pub(super) latest_request: u64,
    /// Requests from this number on were sent after the last announcement had arrived.
    fresh_from: u64,
    /// Remaining units by the first announcement of the window. With `own_accepted`, it measures this process's
    /// share.
    initial_remaining: u64,
    /// Number of this process's requests that were accepted since the first announcement.
    own_accepted: u64,
    /// Number of accepted requests whose responses have announced the window.
    reports: u64,
    /// The fewest remaining units in these responses.
    lowest: u64,
    /// Time of the first announcement of the window.
    began: Instant,
    /// Time of the last announcement of the server.
    updated: Instant,
    /// The fewest remaining units of a later window, and its reset, by responses that were overtaken.
    next_window: Option<(u64, Instant)>,
}

impl AnnouncedWindow {
    /// Creates a window from the response to request `by`, where `next` is the number of the next request.
    pub(super) fn new(limit: &Limit, remaining: u64, by: u64, next: u64, now: Instant) -> Self {
        // A reset of zero is not an end: servers that round down announce it during the last second, others always.
        // Without a reset, a window of a known length ends that long after it was first seen, at the latest.
        let length = limit.window.filter(|_| limit.refill.is_none());
        let reset = limit.reset.or(length).filter(|reset| !reset.is_zero());
        let reset_at = reset.map(|reset| add_capped(now, reset));
        Self {
            limit: limit.limit,
            remaining,
            debits: 0,
            debits_disabled: false,
            reset_at,
            first_reset: reset_at,
            latest_reset: reset_at,
            latest_request: by,
            fresh_from: next,
            initial_remaining: remaining,
            own_accepted: 0,
            reports: 0,
            lowest: remaining,
            began: now,
            updated: now,
            next_window: None,
        }
    }

    /// Records a later response, to request `by`, where `next` is the number of the next request.
    ///
    /// A response to a request sent after the last announcement replaces what was known. Of other responses, which
    /// may have overtaken each other, the fewest remaining requests count. A response about an earlier window is
    /// ignored.
    ///
    /// - A later reset, a later request and more remaining requests: the next window has begun. The measurement of
    ///   the share begins again.
    /// - A request sent after the last announcement arrived, or a later request with a later reset: replaces what was
    ///   known.
    /// - A reset that is earlier by more than [`RESET_TOLERANCE`]: ignored.
    /// - Otherwise: counts if fewer requests remain than are known to.
    pub(super) fn observe(
        &mut self,
        limit: &Limit,
        remaining: u64,
        by: u64,
        next: u64,
        now: Instant,
    ) {
        let mut fresh = Self::new(limit, remaining, by, next, now);
        if limit.reset.is_none() {
            fresh.reset_at = None;
        }
        self.latest_reset = self.latest_reset.max(fresh.reset_at);
        let (earlier, later) = match (self.reset_at, fresh.reset_at) {
            (Some(known), Some(announced)) => (
                announced + RESET_TOLERANCE < known,
                announced > known + RESET_TOLERANCE,
            ),
            _ => (false, false),
        };
        let newer = later && by > self.latest_request;
        if newer && remaining > self.available() {
            self.begin_next(fresh);
        } else if by >= self.fresh_from || newer {
            self.replace(fresh);
        } else if !earlier {
            self.merge_overtaken(fresh, later);
        }
    }

    /// Begins the next window, with its first response.
    fn begin_next(&mut self, fresh: Self) {
        *self = Self {
            remaining: self.least_of_next(&fresh),
            ..fresh
        };
    }

    /// Replaces what is known by a response to a request that was sent after the last announcement, or that is about a
    /// later window. The measurement of the share continues.
    fn replace(&mut self, fresh: Self) {
        *self = Self {
            limit: fresh.limit.or(self.limit),
            initial_remaining: self.initial_remaining.max(fresh.remaining),
            own_accepted: self.own_accepted,
            reports: self.reports,
            lowest: self.lowest,
            began: self.began,
            first_reset: self.first_reset,
            latest_reset: self.latest_reset,
            reset_at: fresh.reset_at.or(self.reset_at),
            ..fresh
        };
    }

    /// Merges a response to a request that was in flight together with others. They arrive in any order: only fewer
    /// remaining requests count. `later`: it is about a later window.
    fn merge_overtaken(&mut self, fresh: Self, later: bool) {
        self.updated = fresh.updated;
        if fresh.remaining < self.available() {
            (self.remaining, self.debits) = (fresh.remaining, 0);
            self.fresh_from = fresh.fresh_from;
            if later {
                self.reset_at = fresh.reset_at;
            }
        } else if let Some(reset) = fresh.reset_at.filter(|_| later) {
            // To a request that was overtaken: kept until that window begins.
            self.next_window = Some((self.least_of_next(&fresh), reset));
        }
        if fresh.latest_request > self.latest_request {
            self.latest_request = fresh.latest_request;
            self.reset_at = fresh.reset_at.or(self.reset_at);
        }
    }

    /// Returns the fewest remaining units of the next window, by `fresh` and by the responses that were overtaken.
    fn least_of_next(&self, fresh: &Self) -> u64 {
        let known = self
            .next_window
            .filter(|(_, reset)| fresh.is_same_window(*reset));
        known.map_or(fresh.remaining, |(known, _)| known.min(fresh.remaining))
    }

    /// Creates a window that another process has reported.
    ///
    /// Responses to requests that are sent from now on replace it. Those to earlier ones can only reduce what
    /// remains.
    pub(super) fn from_shared(
        window: &SharedWindow,
        reset_at: Instant,
        next: u64,
        now: Instant,
    ) -> Self {
        Self {
            limit: window.limit,
            remaining: window.remaining,
            debits: 0,
            debits_disabled: false,
            reset_at: Some(reset_at),
            first_reset: Some(reset_at),
            latest_reset: Some(reset_at),
            latest_request: 0,
            fresh_from: next,
            initial_remaining: window.remaining,
            own_accepted: 0,
            reports: 0,
            lowest: window.remaining,
            began: now,
            updated: now,
            next_window: None,
        }
    }

    /// Merges what other processes report about the window that ends at `reset_at`: this one, or a later one.
    ///
    /// The report replaces the remaining requests and debits. Responses to requests that are in flight now may be
    /// older than the report, so that they can only reduce what remains.
    pub(super) fn merge_remote(&mut self, remaining: u64, reset_at: Instant, next: u64) {
        let same = self.is_same_window(reset_at);
        if same && remaining == self.remaining {
            return;
        }
        if !same {
            self.reset_at = Some(reset_at);
            self.latest_reset = self.latest_reset.max(self.reset_at);
        }
        (self.remaining, self.debits) = (remaining, 0);
        self.fresh_from = next;
    }

    /// Returns the remaining units: as announced, less those debited since.
    pub(super) fn available(&self) -> u64 {
        self.remaining.saturating_sub(self.debits)
    }

    /// Returns whether the server itself has announced that nothing remains.
    pub(super) fn is_exhausted(&self) -> bool {
        self.remaining == 0
    }

    /// Returns whether an accepted request contradicts the announcement that nothing remains, because its response is
    /// about the same window.
    pub(super) fn is_contradicted(&self, reset: Option<Duration>, now: Instant) -> bool {
        let later = self.reset_at.zip(reset);
        let later =
            later.is_some_and(|(known, reset)| add_capped(now, reset) > known + RESET_TOLERANCE);
        self.is_exhausted() && !later
    }

    /// Returns whether a window with this reset is the same one, within [`RESET_TOLERANCE`].
    pub(super) fn is_same_window(&self, reset: Instant) -> bool {
        let at = self.reset_at.filter(|at| *at <= reset + RESET_TOLERANCE);
        at.is_some_and(|at| reset <= at + RESET_TOLERANCE)
    }

    /// Counts an accepted request of this process.
    pub(super) fn on_success(&mut self) {
        self.own_accepted += 1;
    }

    /// Counts requests that were accepted on credit.
    pub(super) fn on_credits_used(&mut self, accepted: u64) {
        self.own_accepted += accepted;
        self.reports += accepted;
    }

    /// Lowers what remains to what a response to a request on credit has announced. Responses to requests with numbers
    /// below `next` may be older: they can only reduce it further.
    ///
    /// `in_flight` of the requests before `next` have not been answered, so that `remaining` does not include them.
    pub(super) fn lower(&mut self, remaining: u64, next: u64, in_flight: u32) {
        if remaining < self.available() {
            self.set_remaining(remaining);
            self.latest_request = next.saturating_sub(u64::from(in_flight) + 1);
            self.fresh_from = next;
        }
        self.lowest = self.lowest.min(remaining);
    }

    /// Debits a request that may have been counted and whose response announces nothing.
    pub(super) fn debit(&mut self, amount: u64) {
        if !self.debits_disabled {
            self.debits = self.debits.saturating_add(amount);
        }
    }

    /// Corrects what remains after a request that cost `used`, although `taken` was subtracted for it.
    pub(super) fn correct(&mut self, taken: u64, used: u64) {
        let more = used.saturating_sub(taken);
        let returned = taken.saturating_sub(used);
        self.debits = self.debits.saturating_add(more);
        let most = self.limit.unwrap_or(u64::MAX);
        self.remaining = self.remaining.saturating_add(returned).min(most);
    }

    /// Debits an accepted request whose response announces nothing. If more of them are accepted than remained, such
    /// requests do not count at the server: debits are reverted, and later ones skipped.
    pub(super) fn debit_unannounced(&mut self, amount: u64) {
        if self.available() == 0 && !self.is_exhausted() {
            (self.debits, self.debits_disabled) = (0, true);
        }
        self.debit(amount);
    }

    /// Returns the time at which the window is over.
    ///
    /// If others use a part of the quota (`share`), that is a little later than the reset: their throttled requests
    /// wait for whole seconds, and would find the quota exhausted again. A quota of which less than `min_remaining`
    /// remains is believed for at most `max_hold` after the last announcement.
    pub(super) fn resets_at(
        &self,
        share: f64,
        min_remaining: f64,
        max_hold: Duration,
    ) -> Option<Instant> {
        let reset = self.reset_at?;
        let resets_at = if share > NEARLY_ALL {
            reset
        } else {
            // 0.5 % of the window.
            let window = reset.saturating_duration_since(self.began);
            add_capped(reset, (window / 200).min(HINT_RESOLUTION))
        };
        Some(if as_f64(self.remaining) < min_remaining {
            resets_at.min(add_capped(self.updated, max_hold))
        } else {
            resets_at
        })
    }

    /// Returns the time of the first announcement of the window.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Returns the number of this process's requests that were accepted in the window.
    pub(super) fn own_accepted(&self) -> u64 {
        self.own_accepted
    }

    /// Returns whether the window is known not to be over. Without a reset it is valid for [`USUAL_WINDOW`].
    pub(super) fn is_valid(&self, now: Instant) -> bool {
        self.reset_at
            .unwrap_or_else(|| add_capped(self.updated, USUAL_WINDOW))
            > now
    }

    /// Makes responses to requests with numbers from `next` on newer than what is known, and all others older.
    pub(super) fn renumber(&mut self, next: u64) {
        (self.latest_request, self.fresh_from) = (0, next);
        self.next_window = None;
    }

    /// Returns whether the window is long enough for its reset to differ from that of the next one.
    fn is_distinct(&self) -> bool {
        self.first_reset
            .is_some_and(|reset| reset > self.began + 2 * RESET_TOLERANCE)
    }

    /// Counts the response to an accepted request.
    pub(super) fn on_report(&mut self, remaining: u64) {
        self.reports += 1;
        self.lowest = self.lowest.min(remaining);
    }

    /// Returns whether what remains falls by less than one per request, although the reset has not moved. Then several
    /// replicas count a part of the requests each.
    pub(super) fn falls_slowly(&self) -> bool {
        let same_reset = self
            .first_reset
            .is_some_and(|reset| self.is_same_window(reset) && self.is_distinct());
        let fall = self.initial_remaining.saturating_sub(self.lowest);
        // From a full quota: in a window that slides, earlier requests expire meanwhile.
        let full = self
            .limit
            .is_some_and(|limit| as_f64(self.initial_remaining) >= as_f64(limit) * NEARLY_ALL);
        // With two replicas, it falls by half of the requests; 3 of 5 leaves a margin.
        full && same_reset
            && fall >= u64::from(MIN_EVIDENCE)
            && fall.saturating_mul(5) < self.reports.saturating_mul(3)
    }

    /// Sets what remains, because the announcement is that of one replica.
    pub(super) fn set_remaining(&mut self, remaining: u64) {
        (self.remaining, self.debits) = (remaining, 0);
    }

    /// Returns the difference between an announcement and the one before it, and the number of requests sent in
    /// between, if both are about one window and the second request was sent after the first response had arrived.
    pub(super) fn change(
        &self,
        limit: &Limit,
        remaining: u64,
        by: u64,
        now: Instant,
    ) -> Option<(i128, u64)> {
        let reset = add_capped(now, limit.reset?);
        let comparable = by >= self.fresh_from && self.is_same_window(reset) && self.is_distinct();
        let sent = by.saturating_sub(self.latest_request);
        comparable.then(|| (i128::from(remaining) - i128::from(self.remaining), sent))
    }

    /// Returns this process's share of what the quota loses, where `before` is the share in earlier windows.
    ///
    /// All requests in flight may have been counted already, so they are included.
    ///
    /// The share is the quotient of this process's accepted requests and the fall of the remaining requests. At the
    /// start of a window, [`MIN_EVIDENCE`] requests of the earlier share stabilize it.
    pub(super) fn estimate_share(&self, before: f64, in_flight: u32) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
        let (own_share, fall) = (
            (self.own_accepted + u64::from(in_flight)) as f64,
            self.initial_remaining.saturating_sub(self.available()) as f64,
        );
        let earlier = f64::from(MIN_EVIDENCE);
        ((before * earlier + own_share) / (earlier + fall)).clamp(0.0, 1.0)
    }

    /// Returns why one more request must wait; `None` if it need not. The window ends at `resets_at`.
    ///
    /// Only an announcement holds requests until the reset. Debits are no proof: while only they show that too little
    /// remains, one request is sent at a time.
    ///
    /// - What remains is enough for the requests in flight and this one: it may be sent.
    /// - Nothing is in flight, and the minimum for a single request remains: it may be sent without a margin, because
    ///   no other request of this process needs the rest.
    /// - The server has announced that less remains, and nothing is in flight: wait until enough has been refilled, or
    ///   else until `resets_at`.
    /// - Requests are in flight: wait for one of them, because its response shows what remains.
    /// - Otherwise one request is sent.
    pub(super) fn admit(
        &self,
        need: &Need,
        in_flight: u32,
        refill: Refill,
        resets_at: Option<Instant>,
        now: Instant,
    ) -> Option<SendTime> {
        let available = self.available_at(refill, now);
        if need.reserved + need.amount <= available
            || in_flight == 0 && need.min_remaining <= available
        {
            return None;
        }
        let wanted = if in_flight == 0 {
            need.min_remaining
        } else {
            need.reserved + need.amount
        };
        let refilled = refill.time_for(wanted - available);
        let refilled = refilled.map(|wait| add_capped(now, wait.max(TIMER_RESOLUTION)));
        let at = refilled.or(resets_at);
        let announced = self.with_refill(as_f64(self.remaining), refill, now);
        match (at, in_flight) {
            (Some(at), 0) if announced < need.min_remaining => Some(SendTime::NotBefore(at)),
            (at, 1..) => Some(SendTime::AfterResponse(at)),
            // Not known to be exhausted, or until when: one request is sent.
            (_, 0) => None,
        }
    }

    /// Returns what is available at `now`, including what was refilled since the last announcement.
    pub(super) fn available_at(&self, refill: Refill, now: Instant) -> f64 {
        self.with_refill(as_f64(self.available()), refill, now)
    }

    /// Adds what was refilled since the last announcement, up to the limit.
    fn with_refill(&self, units: f64, refill: Refill, now: Instant) -> f64 {
        let Some(rate) = refill.rate() else {
            return units;
        };
        let passed = now.saturating_duration_since(self.updated).as_secs_f64();
        let most = self.limit.map_or(f64::INFINITY, as_f64).max(units);
        (units + rate * passed).min(most)
    }
}

/// What one more request needs of a window, in its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Need {
    /// What the requests in flight may still take.
    pub(super) reserved: f64,
    /// What the request needs, with a margin if the amount is not known.
    pub(super) amount: f64,
    /// Minimum that must remain for a request that is sent alone.
    pub(super) min_remaining: f64,
}
