//! The estimated limit of a server that does not announce its quota, learned from throttling responses.
//!
//! A throttle that ends soon is the mark of a quota that is replenished continuously: a [`Rate`]. One that lasts is
//! the end of a window: a number of requests in a period. A quota that counts requests in a sliding window is modeled
//! by a [`Slide`] beside it.
//!
//! # Choice of the model
//!
//! The model is chosen when requests are accepted again after a throttle:
//!
//! - The throttle lasted at most [`SHORT`]: a [`Rate`], unless at least 90 % of a known window were used, whose end
//!   happened to be near.
//! - It lasted longer: a [`Window`] with the requests accepted since the last opening, and with the time between the
//!   two openings as bounds of its length.
//! - Fewer requests were accepted than before, and throttled requests explain the difference: the [`Slide`] is
//!   activated.
//!
//! The models are not exact: probes and throttles correct them.

use tokio::time::Instant;

use super::{
    admit::Admit,
    allowance::Window,
    hold::Look,
    lesson::Lesson,
    rate::{Rate, SHORT},
    slide::Slide,
    window::{Between, Period},
};

/// The estimator.
#[derive(Clone, Debug)]
pub(super) struct Habit {
    /// When requests were last accepted again after throttling, or the first was sent.
    pub(super) opened: Option<Opened>,
    /// Number of requests accepted since `opened`.
    pub(super) accepted: u64,
    /// The current throttling, until a request is accepted again.
    pub(super) blocked: Option<Blocked>,
    /// The model that requests obey.
    pub(super) kind: Kind,
    /// The model of a sliding window, from the first throttle on. Requests obey it while it is active.
    pub(super) slide: Option<Box<Slide>>,
}

/// The start of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    /// The time at which it started, between two bounds.
    pub(super) when: Between,
    /// Whether this is the first request or the first after a window's end, which may lie in the middle of a window.
    by_chance: bool,
}

/// The model of a quota.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Nothing is known: requests are not limited.
    Unknown,
    /// Continuously replenished, as by a token bucket.
    Rate(Rate),
    /// A number of requests in each period.
    Window(Window),
}

/// Throttled, and no request accepted since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocked {
    /// The time of the first throttle.
    pub(super) since: Instant,
    /// The last time at which the quota was known to be exhausted.
    pub(super) still: Instant,
    /// The limit that the throttling response named.
    pub(super) limit: Option<u64>,
    /// Number of probes that were throttled since.
    pub(super) looks: u64,
    /// Whether a sliding window that also counts throttled requests would explain the throttle.
    pub(super) explained: bool,
}

/// Whether one more request may be sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// It may.
    Free,
    /// It must wait.
    Wait(Admit),
    /// One request may be sent alone, to probe for a greater limit.
    Look,
    /// No request may be sent before this time: the limit is reached.
    Hold(Instant),
}

impl Habit {
    /// An estimator that has learned nothing.
    pub(super) const NONE: Self = Self {
        opened: None,
        accepted: 0,
        blocked: None,
        kind: Kind::Unknown,
        slide: None,
    };

    /// Records a send.
    pub(super) fn sent(&mut self, now: Instant) {
        let allowance = self.allowance();
        if let Some(slide) = &mut self.slide {
            slide.sent(allowance, now);
        }
        let over = match (&self.kind, self.opened) {
            (Kind::Window(window), Some(opened)) if self.blocked.is_none() => {
                now >= window.period.end(opened.when)
            }
            (_, opened) => opened.is_none(),
        };
        // The window is over, or this is the first request: a new window begins now, as far as is known.
        if over {
            self.opened = Some(Opened {
                when: Between::at(now),
                by_chance: true,
            });
            self.accepted = 0;
        }
    }

    /// Takes back the last send, which did not happen.
    pub(super) fn unsent(&mut self) {
        if let Some(slide) = &mut self.slide {
            slide.unsent();
        }
    }

    /// Records that a request of an earlier epoch was accepted.
    pub(super) fn accepted_late(&mut self) {
        self.accepted += 1;
        if let Some(slide) = &mut self.slide {
            slide.accepted();
        }
        if let Kind::Rate(rate) = &mut self.kind {
            rate.accepted_late();
        }
    }

    /// Records that a request was accepted. `look` is the last probe.
    pub(super) fn accepted(&mut self, look: Look, now: Instant) {
        if let Some(blocked) = self.blocked.take() {
            // The quota opened after it was last known exhausted, or when the server said, and before the probe was
            // sent.
            let latest = look.sent.unwrap_or(now);
            let earliest = look.since.unwrap_or(blocked.still).min(latest);
            self.reopened(blocked, Between { earliest, latest });
        }
        self.accepted += 1;
        if let Some(slide) = &mut self.slide {
            slide.accepted();
        }
        if let Kind::Rate(rate) = &mut self.kind {
            rate.accepted(now);
        }
    }

    /// Returns whether one more request may be sent.
    ///
    /// - [`Kind::Unknown`][]: always.
    /// - [`Kind::Rate`]: if enough requests have accrued.
    /// - [`Kind::Window`] with an active [`Slide`]: if the log has room, or as a probe for a greater limit.
    /// - [`Kind::Window`]: while fewer requests than the limit were accepted or are in flight. At the limit, either a
    ///   probe is sent or the window counts as exhausted.
    pub(super) fn admit(&mut self, in_flight: u32, now: Instant) -> Verdict {
        match &mut self.kind {
            Kind::Unknown => Verdict::Free,
            Kind::Rate(rate) => rate
                .admit(in_flight, now)
                .map_or(Verdict::Free, Verdict::Wait),
            Kind::Window(window) => {
                if let Some(slide) = self.slide.as_mut().filter(|slide| slide.is_active()) {
                    let Some(wait) = slide.admit(window.allowance, in_flight, now) else {
                        return Verdict::Free;
                    };
                    let idle = self.blocked.is_none() && in_flight == 0;
                    if idle && slide.looks(&mut window.allowance, now) {
                        return Verdict::Look;
                    }
                    return Verdict::Wait(wait);
                }
                let end = self.opened.map(|opened| window.period.end(opened.when));
                let over = end.is_none_or(|end| now >= end);
                // While throttled, holds and slow start limit requests.
                let left = self.accepted + u64::from(in_flight) < window.allowance;
                if left || over || self.blocked.is_some() {
                    return Verdict::Free;
                }
                if in_flight > 0 {
                    return Verdict::Wait(Admit::AfterAnswer(end));
                }
                let by_chance = self.opened.is_none_or(|opened| opened.by_chance);
                if !window.is_enough(self.accepted, by_chance) {
                    return Verdict::Look;
                }
                // The limit is reached without a throttle: as if the server had throttled, until the next probe.
                let still = self.opened.map(|opened| window.period.start(opened.when));
                self.blocked = Some(Blocked {
                    since: now,
                    still: still.unwrap_or(now),
                    limit: None,
                    looks: 0,
                    explained: false,
                });
                Verdict::Hold(self.next_look(now))
            }
        }
    }

    /// Returns whether throttling has taught anything.
    pub(super) fn is_known(&self) -> bool {
        self.blocked.is_some() || !matches!(self.kind, Kind::Unknown)
    }

    /// Returns the estimate, as far as it is known.
    pub(super) fn lesson(&self) -> Lesson {
        match &self.kind {
            Kind::Unknown => Lesson::default(),
            Kind::Rate(rate) => Lesson {
                rate: rate.measured(),
                ..Lesson::default()
            },
            Kind::Window(window) => Lesson {
                allowance: Some(window.allowance),
                period: self
                    .sliding()
                    .map_or_else(|| window.period.likely(), |slide| Some(slide.length())),
                ..Lesson::default()
            },
        }
    }

    /// Returns how many more requests have room in an estimated window, and the window's end.
    pub(super) fn room(&self, in_flight: u32) -> Option<(f64, Instant)> {
        let Kind::Window(window) = &self.kind else {
            return None;
        };
        let steady = self.blocked.is_none() && self.sliding().is_none();
        let opened = self.opened.filter(|_| steady)?;
        let left = window.allowance.saturating_sub(self.accepted);
        #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
        let room = left as f64 - f64::from(in_flight);
        Some((room, window.period.end(opened.when)))
    }

    /// Returns whether the estimate limits requests after a hold, so that slow start is not needed.
    pub(super) fn is_paced(&self) -> bool {
        self.sliding().is_some() || matches!(&self.kind, Kind::Rate(rate) if rate.is_known())
    }

    /// Returns the sliding window, if requests obey it.
    pub(super) fn sliding(&self) -> Option<&Slide> {
        self.slide.as_deref().filter(|slide| slide.is_active())
    }

    /// Returns the number of requests that the server accepts in one window, as far as is known.
    pub(super) fn allowance(&self) -> u64 {
        match &self.kind {
            Kind::Window(window) => window.allowance,
            _ => self.accepted,
        }
    }

    /// Records that requests are accepted again, at a time within `when`, and chooses the model.
    ///
    /// See the module's documentation for the rules.
    fn reopened(&mut self, blocked: Blocked, when: Between) {
        let spent = std::mem::take(&mut self.accepted);
        let before = self.opened.replace(Opened {
            when,
            by_chance: false,
        });
        let first = before.is_none_or(|before| before.by_chance);
        let known = match &self.kind {
            Kind::Window(window) => window.proven,
            _ => spent,
        };
        if let Some(slide) = &mut self.slide {
            let looked = (blocked.looks > 0).then_some(blocked.still);
            let accepted = slide.reopened(known, when.latest, looked);
            // Less was accepted than in earlier windows, and throttled requests explain the difference: the window
            // slides.
            if blocked.explained && accepted < known && !slide.is_active() {
                slide.activate(when.latest);
                if let Kind::Window(window) = &mut self.kind {
                    window.allowance = known;
                }
            }
            if slide.is_active() {
                return;
            }
        }
        // A short throttle is the mark of a rate, a long one of a window.
        let short = when.latest.saturating_duration_since(blocked.since) <= SHORT;
        match &mut self.kind {
            // At least 90 % used: the end of a window that happened to be near.
            Kind::Window(window)
                if short && spent.saturating_mul(10) >= window.allowance.saturating_mul(9) => {}
            Kind::Rate(_) if short => {}
            _ if short => {
                self.kind = Kind::Rate(Rate::new(blocked.since, spent));
                self.slide = None;
            }
            kind => {
                let period = before.map_or(Period::UNKNOWN, |before| {
                    if before.by_chance {
                        Period::at_least(before.when.latest, when)
                    } else {
                        Period::from_to(before.when, when)
                    }
                });
                // The limit that the server named counts only for a first window, of which a part may have been
                // missed.
                let told = blocked.limit.filter(|limit| first && *limit >= spent);
                let allowance = told.unwrap_or(spent);
                match kind {
                    // Other clients have used the window up: this says nothing about the limit.
                    _ if allowance == 0 => {}
                    Kind::Window(window) => window.learn(allowance, period),
                    _ => *kind = Kind::Window(Window::new(allowance, period)),
                }
            }
        }
    }
}
