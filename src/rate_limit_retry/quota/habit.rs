//! What refusals teach about a server that does not announce its quota.
//!
//! A refusal that ends soon is the mark of a quota that refills by and by: a [`Rate`]. One that lasts is the end of a
//! window: so many requests, so long.

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

/// What is remembered.
#[derive(Clone, Debug)]
pub(super) struct Habit {
    /// When requests could go last, after a refusal; and how many have been accepted since.
    pub(super) opened: Option<Opened>,
    pub(super) accepted: u64,
    pub(super) blocked: Option<Blocked>,
    pub(super) kind: Kind,
    /// Another view of the same, from the first refusal on.
    pub(super) slide: Option<Box<Slide>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) when: Between,
    /// The first of all: perhaps in the middle of a window.
    by_chance: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Unknown,
    Rate(Rate),
    Window(Window),
}

/// Refused, and not yet accepted again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocked {
    pub(super) since: Instant,
    /// The last time that it was known to be still so.
    pub(super) still: Instant,
    /// The limit that the refusal named.
    pub(super) limit: Option<u64>,
    /// How many looks have been refused since.
    pub(super) looks: u64,
    /// Whether it would have been so if the server counts any stretch of time, and refused requests, too.
    pub(super) explained: bool,
}

/// Whether one more may go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Free,
    Wait(Admit),
    /// One alone, to see whether there is more.
    Look,
    /// Nothing before then: the allowance is used up.
    Hold(Instant),
}

impl Habit {
    pub(super) const NONE: Self = Self {
        opened: None,
        accepted: 0,
        blocked: None,
        kind: Kind::Unknown,
        slide: None,
    };

    /// A request goes.
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
        if over {
            self.opened = Some(Opened {
                when: Between::at(now),
                by_chance: true,
            });
            self.accepted = 0;
        }
    }

    /// The request that was to go last did not.
    pub(super) fn unsent(&mut self) {
        if let Some(slide) = &mut self.slide {
            slide.unsent();
        }
    }

    /// A request was accepted that had been sent before the last refusal came.
    pub(super) fn accepted_late(&mut self) {
        self.accepted += 1;
        if let Some(slide) = &mut self.slide {
            slide.accepted();
        }
        if let Kind::Rate(rate) = &mut self.kind {
            rate.accepted_late();
        }
    }

    /// A request was accepted.
    pub(super) fn accepted(&mut self, look: Look, now: Instant) {
        if let Some(blocked) = self.blocked.take() {
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

    /// Whether refusals have taught anything.
    pub(super) fn is_known(&self) -> bool {
        self.blocked.is_some() || !matches!(self.kind, Kind::Unknown)
    }

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

    /// How many more have room in a window that has been learnt, and until when.
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

    /// Whether it is known how many may go after a hold.
    pub(super) fn is_paced(&self) -> bool {
        self.sliding().is_some() || matches!(&self.kind, Kind::Rate(rate) if rate.is_known())
    }

    /// The other view, if requests go by it.
    pub(super) fn sliding(&self) -> Option<&Slide> {
        self.slide.as_deref().filter(|slide| slide.is_active())
    }

    /// How many requests the server takes at once, as far as is known.
    pub(super) fn allowance(&self) -> u64 {
        match &self.kind {
            Kind::Window(window) => window.allowance,
            _ => self.accepted,
        }
    }

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
        let short = when.latest.saturating_duration_since(blocked.since) <= SHORT;
        match &mut self.kind {
            // The end of a window that happened to be near.
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
                let told = blocked.limit.filter(|limit| first && *limit >= spent);
                let allowance = told.unwrap_or(spent);
                match kind {
                    // Others have used it up: this tells nothing.
                    _ if allowance == 0 => {}
                    Kind::Window(window) => window.learn(allowance, period),
                    _ => *kind = Kind::Window(Window::new(allowance, period)),
                }
            }
        }
    }
}
