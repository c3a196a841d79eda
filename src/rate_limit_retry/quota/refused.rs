//! What follows when a server refuses that does not announce its quota.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    habit::{Blocked, Habit, Kind},
    slide::Slide,
    window::{Between, Period},
};

/// What is known of a refused request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    /// When it went, if it went alone.
    pub(super) sent: Option<Instant>,
    /// The limit that the answer names.
    pub(super) limit: Option<u64>,
    /// Whether the answer says nothing about limits.
    pub(super) silent: bool,
    /// Whether all requests before it have been counted.
    pub(super) counted: bool,
    /// So many have gone since it went, itself included.
    pub(super) behind: u64,
    pub(super) in_flight: u32,
}

impl Habit {
    /// A request was refused that had been sent before the last refusal came.
    pub(super) fn refused_late(&mut self) {
        if let Some(slide) = &mut self.slide {
            slide.refused();
        }
    }

    /// A request was refused; the first of those that were under way together.
    pub(super) fn refused(&mut self, refusal: &Refusal, now: Instant) {
        let allowance = self.allowance();
        if !refusal.silent {
            self.slide = None;
        }
        self.refused_late();
        let Some(blocked) = &mut self.blocked else {
            let explained = self.is_explained(refusal, now);
            let still = match (&self.kind, self.opened) {
                // Nobody will look earlier.
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

    /// The first refusal after a time: whether a quota that slides explains it.
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
            if !slide.refused_nevertheless(&mut window.allowance, behind, in_flight, now) {
                slide.deactivate();
                self.accepted = slide.sent_within(now).saturating_sub(behind);
                self.opened = None;
                window.seen();
            }
            return slide.is_active();
        }
        window.seen();
        let explained = slide.explains(window.proven, behind, now);
        if explained && slide.sent_since_opening(behind) + in_flight.div_ceil(2) < window.proven {
            window.allowance = window.proven;
            slide.activate(now);
        }
        explained
    }

    /// When to look again, if the server does not say.
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

    /// Where every look may be counted and nothing is known, looks must become rarer than the quota.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        let many = |blocked: &Blocked| blocked.looks.saturating_mul(4) > self.accepted.max(8);
        let blocked = self
            .blocked
            .filter(|blocked| self.slide.is_some() && many(blocked));
        blocked.map_or(Duration::ZERO, |blocked| (now - blocked.since) / 2)
    }
}
