//! The estimate after a throttling response of a server that does not announce its quota.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    habit::{Blocked, Habit, Kind},
    slide::Slide,
    window::{Between, Period},
};

/// What is known of a throttled request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    /// The time at which it was sent, if it was a probe.
    pub(super) sent: Option<Instant>,
    /// The limit that the response names.
    pub(super) limit: Option<u64>,
    /// Whether the response says nothing about limits.
    pub(super) silent: bool,
    /// Whether all requests before it have been counted here, and none took the fast path.
    pub(super) counted: bool,
    /// Number of requests sent since it was sent, itself included.
    pub(super) behind: u64,
    /// Number of requests in flight when the response arrived.
    pub(super) in_flight: u32,
}

impl Habit {
    /// Records that a request of an earlier epoch was throttled.
    pub(super) fn refused_late(&mut self) {
        if let Some(slide) = &mut self.slide {
            slide.refused();
        }
    }

    /// Records that a request was throttled, the first of its epoch.
    ///
    /// The first throttle after accepted requests starts a [`Blocked`] state. Later ones are throttled probes: they
    /// show that the quota is still exhausted, which raises the lower bound of the window's length.
    pub(super) fn refused(&mut self, refusal: &Refusal, now: Instant) {
        let allowance = self.allowance();
        // A server that names limits or waits is not modeled by a sliding window.
        if !refusal.silent {
            self.slide = None;
        }
        self.refused_late();
        let Some(blocked) = &mut self.blocked else {
            let explained = self.is_explained(refusal, now);
            let still = match (&self.kind, self.opened) {
                // No probe is sent before the window can be over.
                (Kind::Window(window), Some(opened)) if explained => {
                    window.period.start(opened.when)
                }
                _ => now,
            };
            self.blocked = Some(Blocked {
                since: now,
                still: still.max(now),
                limit: refusal.limit,
                looks: 0,
                explained,
            });
            return;
        };
        blocked.looks += 1;
        let sent = refusal.sent.unwrap_or(now);
        blocked.still = sent.max(blocked.still);
        blocked.limit = refusal.limit.or(blocked.limit);
        if let Some(slide) = self.slide.as_mut().filter(|slide| slide.is_active()) {
            slide.refused_again(allowance, sent);
        }
    }

    /// Returns whether a sliding window explains a throttle after accepted requests, and updates the models.
    ///
    /// The first silent throttle starts the log, if all requests have been counted. Later throttles compare the log
    /// with the fixed window.
    fn is_explained(&mut self, refusal: &Refusal, now: Instant) -> bool {
        let from = self.opened.map_or(now, |opened| opened.when.earliest);
        let (behind, in_flight) = (refusal.behind, u64::from(refusal.in_flight));
        let Some(slide) = &mut self.slide else {
            match &mut self.kind {
                Kind::Rate(rate) => {
                    rate.refused(now);
                    return false;
                }
                Kind::Window(window) => window.seen(),
                Kind::Unknown => {}
            }
            // From now on the log of sends is kept. It starts with what is known: the number sent since the opening.
            if refusal.silent && refusal.counted {
                let sent = self.accepted + in_flight + 1;
                self.slide = Some(Box::new(Slide::new(from, now, sent)));
            }
            return false;
        };
        let Kind::Window(window) = &mut self.kind else {
            return false;
        };
        if slide.is_active() {
            // The sliding window has proved wrong: back to fixed windows, with the sends of the last period.
            if !slide.refused_nevertheless(&mut window.allowance, behind, in_flight, now) {
                slide.deactivate();
                self.accepted = slide.sent_within(now).saturating_sub(behind);
                self.opened = None;
                window.seen();
            }
            return slide.is_active();
        }
        window.seen();
        // The older model allows more than was accepted now, and the log shows why.
        let explained = slide.explains(window.proven, behind, now);
        if explained && slide.sent_since_opening(behind) + in_flight.div_ceil(2) < window.proven {
            window.allowance = window.proven;
            slide.activate(now);
        }
        explained
    }

    /// Returns the time of the next probe, if the server does not name one.
    pub(super) fn next_look(&self, now: Instant) -> Instant {
        let period = match &self.kind {
            Kind::Window(window) => window.period,
            _ => Period::UNKNOWN,
        };
        let refused = self.blocked.map_or(now, |blocked| blocked.since);
        let opened = self
            .opened
            .map_or(Between::at(refused), |opened| opened.when);
        let look = period.next_look(opened, refused, now);
        let room = |slide: &Slide| slide.room(self.allowance()).unwrap_or(look);
        let explained = self.blocked.is_some_and(|blocked| blocked.explained);
        match &self.slide {
            Some(slide) if slide.is_active() => room(slide),
            Some(slide) if explained => room(slide).max(look),
            _ => look,
        }
    }

    /// Returns the minimum wait before the next probe: half the time since the first throttle, once many probes were
    /// throttled and each may have been counted. Probes must become rarer than the quota.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        let many = |blocked: &Blocked| blocked.looks.saturating_mul(4) > self.accepted.max(8);
        let blocked = self
            .blocked
            .filter(|blocked| self.slide.is_some() && many(blocked));
        blocked.map_or(Duration::ZERO, |blocked| (now - blocked.since) / 2)
    }
}
