//! What refusals teach about a server that does not announce its quota.
//!
//! A refusal that ends soon is the mark of a quota that refills by and by: a [`Rate`]. One that lasts is the end of a
//! window: so many requests, so long.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Admit, Lesson, Look,
    rate::Rate,
    window::{Between, Period},
};

/// What is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habit {
    /// When requests could go last, after a refusal; and how many have been accepted since.
    opened: Option<Opened>,
    accepted: u64,
    blocked: Option<Blocked>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
struct Opened {
    when: Between,
    /// The first of all: perhaps in the middle of a window.
    by_chance: bool,
}

/// Refused, and not yet accepted again.
#[derive(Clone, Copy, Debug)]
struct Blocked {
    since: Instant,
    /// The last time that it was known to be still so.
    still: Instant,
    /// The limit that the refusal named.
    limit: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Unknown,
    Rate(Rate),
    Window(Window),
}

#[derive(Clone, Copy, Debug)]
struct Window {
    allowance: u64,
    period: Period,
    /// How many windows have gone by without a look at what is beyond the allowance, and after how many one is due.
    unseen: u32,
    next_look: u32,
    /// By how much the next look goes beyond the allowance.
    step: u64,
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
    };

    /// A request goes.
    pub(super) fn sent(&mut self, now: Instant) {
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

    /// A request was accepted that had been sent before the last refusal came.
    pub(super) fn accepted_late(&mut self) {
        self.accepted += 1;
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
        if let Kind::Rate(rate) = &mut self.kind {
            rate.accepted(now);
        }
    }

    /// A request was refused; the first of those that were under way together. `sent` is when it went.
    pub(super) fn refused(&mut self, sent: Option<Instant>, limit: Option<u64>, now: Instant) {
        match &mut self.blocked {
            Some(blocked) => {
                blocked.still = sent.unwrap_or(now).max(blocked.still);
                blocked.limit = limit.or(blocked.limit);
            }
            None => {
                self.blocked = Some(Blocked {
                    since: now,
                    still: now,
                    limit,
                });
                match &mut self.kind {
                    Kind::Rate(rate) => rate.refused(now),
                    Kind::Window(window) => window.seen(),
                    Kind::Unknown => {}
                }
            }
        }
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
        period.next_look(opened, refused, now)
    }

    pub(super) fn admit(&mut self, in_flight: u32, now: Instant) -> Verdict {
        match &mut self.kind {
            Kind::Unknown => Verdict::Free,
            Kind::Rate(rate) => rate
                .admit(in_flight, now)
                .map_or(Verdict::Free, Verdict::Wait),
            Kind::Window(window) => {
                let end = self.opened.map(|opened| window.period.end(opened.when));
                let over = end.is_none_or(|end| now >= end);
                let left = self.accepted + u64::from(in_flight) < window.allowance;
                if left || over || self.blocked.is_some() {
                    return Verdict::Free;
                }
                if in_flight > 0 {
                    return Verdict::Wait(Admit::AfterAnswer(end));
                }
                let opened = self.opened.filter(|opened| !opened.by_chance);
                let Some(opened) = opened.filter(|_| window.unseen < window.next_look) else {
                    window.allowance = self.accepted.saturating_add(window.step);
                    window.step = window.step.saturating_mul(2);
                    return Verdict::Look;
                };
                window.unseen += 1;
                self.blocked = Some(Blocked {
                    since: now,
                    still: window.period.start(opened.when),
                    limit: None,
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
                period: window.period.likely(),
                ..Lesson::default()
            },
        }
    }

    /// How many more have room in a window that has been learnt, and until when.
    pub(super) fn room(&self, in_flight: u32) -> Option<(f64, Instant)> {
        let Kind::Window(window) = &self.kind else {
            return None;
        };
        let opened = self.opened.filter(|_| self.blocked.is_none())?;
        let left = window.allowance.saturating_sub(self.accepted);
        #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
        let room = left as f64 - f64::from(in_flight);
        Some((room, window.period.end(opened.when)))
    }

    /// Whether it is known how many may go after a hold.
    pub(super) fn is_paced(&self) -> bool {
        matches!(&self.kind, Kind::Rate(rate) if rate.is_known())
    }

    fn reopened(&mut self, blocked: Blocked, when: Between) {
        let spent = std::mem::take(&mut self.accepted);
        let before = self.opened.replace(Opened {
            when,
            by_chance: false,
        });
        let first = before.is_none_or(|before| before.by_chance);
        let short = when.latest.saturating_duration_since(blocked.since) <= SHORT;
        match &mut self.kind {
            // The end of a window that happened to be near.
            Kind::Window(window)
                if short && spent.saturating_mul(10) >= window.allowance.saturating_mul(9) => {}
            Kind::Rate(_) if short => {}
            _ if short => self.kind = Kind::Rate(Rate::new(blocked.since, spent)),
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
                    Kind::Window(window) => {
                        window.allowance = allowance;
                        window.period = window.period.and(period);
                    }
                    _ => {
                        *kind = Kind::Window(Window {
                            allowance,
                            period,
                            unseen: 0,
                            next_look: 0,
                            step: 1,
                        });
                    }
                }
            }
        }
    }
}

impl Window {
    /// The allowance has been seen to end where it was thought to.
    fn seen(&mut self) {
        self.unseen = 0;
        self.step = 1;
        self.next_look = (self.next_look * 2).clamp(2, RAREST_LOOK);
    }
}

/// Servers that count in whole seconds say one or two when it is less.
pub(super) const SHORT: Duration = Duration::from_millis(2200);
/// Once in so many windows it is looked whether a quota has grown.
const RAREST_LOOK: u32 = 32;
