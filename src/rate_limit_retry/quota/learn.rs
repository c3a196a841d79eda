//! What a quota learns from answers.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Quota,
    hold::Hold,
    outcome::{About, Learnt},
    pace::{Pace, QUIET},
    ramp::Ramp,
    rate::SHORT,
    refused::Refusal,
    told::{SAME_WINDOW, Told, tightest},
};
use crate::{
    clock::after,
    rate_limit_retry::headers::{Limit, Signals},
};

impl Quota {
    /// Takes in what became of request `number`. Returns the end of the hold, if there is one now.
    /// `now` may be missing for all but answers.
    pub(crate) fn learn(
        &mut self,
        number: u64,
        learnt: Learnt<'_>,
        about: About,
        pace: &Pace,
        random: f64,
        now: Option<Instant>,
    ) -> Option<Instant> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.ramp.ended(number);
        if let Some(fleet) = &mut self.fleet {
            fleet.ended();
        }
        if let (Some(cap), false) = (&mut self.cap, matches!(learnt, Learnt::NotSent))
            && let Some(ended) = now.or(self.used)
        {
            cap.ended(ended);
        }
        let (signals, throttled, served) = match learnt {
            Learnt::Answer { throttled, signals } => (signals, throttled, !throttled),
            Learnt::Failed { signals } => (signals, false, false),
            Learnt::Cached => {
                self.habit.unsent();
                if number >= self.since {
                    self.ramp.widen();
                }
                self.quiet = self.quiet.saturating_add(1);
                return self.held_until(now?);
            }
            Learnt::Unavailable { wait } => {
                self.spent();
                let until = after(now?, wait.min(pace.max_hold));
                self.part_held = self.part_held.max(Some(until));
                self.quiet = 0;
                if number >= self.since {
                    self.look(None);
                }
                return self.held_until(now?);
            }
            Learnt::NotSent => {
                self.habit.unsent();
                return self.held_until(now?);
            }
            Learnt::Sent => {
                self.spent();
                return self.held_until(now?);
            }
            Learnt::Unknown => {
                self.ramp.unanswered();
                self.spent();
                return self.held_until(now?);
            }
        };
        let now = now?;
        let silent = !throttled && signals.is_empty();
        if self.is_of_another(signals, about) {
            self.pass_over(number, throttled, now);
        } else {
            if !(throttled && about == About::All) {
                self.note(number, throttled, served, signals, now);
            }
            if throttled {
                self.refuse(number, signals, about, pace, random, now);
            } else {
                self.accept(number, now);
            }
        }
        self.quiet = if silent {
            self.quiet.saturating_add(1)
        } else {
            0
        };
        self.held_until(now)
    }

    /// A request may have been counted.
    fn spent(&mut self) {
        if let Some(told) = &mut self.told {
            told.spent();
        }
    }

    /// Whether an answer names a limit that is not this partition's. Which one is, is known from requests that nobody
    /// else counts.
    fn is_of_another(&mut self, signals: &Signals, about: About) -> bool {
        let named = tightest(&signals.limits).and_then(|(limit, _)| limit.limit);
        if about == About::This {
            self.own = named.or(self.own);
        }
        let known = self.own.zip(named).filter(|_| about == About::OneOfSeveral);
        known.is_some_and(|(own, named)| own != named)
    }

    /// The answer to a request is about another of its partitions.
    fn pass_over(&mut self, number: u64, throttled: bool, now: Instant) {
        if throttled {
            self.ramp.unanswered();
        } else {
            self.spent();
            self.accept(number, now);
        }
    }

    /// What an answer says about the window.
    fn note(
        &mut self,
        number: u64,
        throttled: bool,
        served: bool,
        signals: &Signals,
        now: Instant,
    ) {
        let Some((limit, remaining)) = tightest(&signals.limits) else {
            if throttled {
                self.doubt.refuted();
            } else {
                self.announced = false;
                if let Some(told) = &mut self.told {
                    told.spent_silently();
                }
            }
            return;
        };
        if let Some(cap) = &mut self.cap {
            cap.told(limit);
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.told();
        }
        if throttled && remaining == 0 {
            self.doubt.refuted();
        } else if served
            && remaining == 0
            && let Some(told) = &self.told
            && told.is_contradicted(limit.reset, now)
        {
            self.doubt.contradicted();
        }
        let stale = number < self.since && !self.is_news(limit, now);
        match &mut self.told {
            Some(told) => told.note(limit, remaining, number, self.next, now),
            None if stale => {}
            None => {
                let told = Told::new(limit, remaining, number, self.next, now);
                self.told = Some(Box::new(told));
            }
        }
        if throttled {
            // A refusal although something remains is about another quota, which is not announced.
            self.another = remaining > 0;
            self.gradual = self.is_gradual(remaining, signals.retry_after, now);
        } else {
            self.announced = true;
        }
        if let (Some(soon), Some(told)) = (self.gradual, &mut self.told) {
            let soon = after(now, soon.max(Duration::from_secs(1)));
            told.reset_at = told.reset_at.map(|reset| reset.min(soon));
        }
    }

    /// Sooner than the reset: more comes by and by. A short wait that ends with a short window tells nothing.
    fn is_gradual(&self, remaining: u64, hint: Option<Duration>, now: Instant) -> Option<Duration> {
        let hint = hint.filter(|_| remaining == 0)?;
        let reset = self.told.as_ref().and_then(|told| told.furthest);
        match reset.map(|reset| reset.saturating_duration_since(now)) {
            Some(reset) if hint + SAME_WINDOW < reset => Some(hint),
            None if hint <= SHORT => Some(hint),
            _ => self.gradual.filter(|_| hint <= SHORT),
        }
    }

    /// Whether an answer that comes late is about the present window and not about the one that is over.
    fn is_news(&self, limit: &Limit, now: Instant) -> bool {
        let over = self.look.since.map(|since| since + SAME_WINDOW);
        let reset = limit.reset.map(|reset| after(now, reset));
        self.gradual.is_none() && over.zip(reset).is_some_and(|(over, reset)| reset > over)
    }

    fn accept(&mut self, number: u64, now: Instant) {
        if let Some(told) = &mut self.told {
            told.accepted();
        }
        if number < self.since {
            self.habit.accepted_late();
            return;
        }
        self.refusals = 0;
        self.habit.accepted(self.look, now);
        if self.announced && self.told.is_some() || self.habit.is_paced() {
            self.ramp = Ramp::open();
        } else {
            self.ramp.widen();
        }
    }

    fn refuse(
        &mut self,
        number: u64,
        signals: &Signals,
        about: About,
        pace: &Pace,
        random: f64,
        now: Instant,
    ) {
        // Many requests may be refused at once: they are one refusal, not many.
        let first = number >= self.since;
        if first {
            self.since = self.next;
            self.refusals = self.refusals.saturating_add(1);
            let limit = tightest(&signals.limits).and_then(|(limit, _)| limit.limit);
            if about != About::All {
                let refusal = Refusal {
                    sent: self.look.sent,
                    limit,
                    counted: self.quiet < QUIET,
                    silent: signals.retry_after.is_none() && signals.limits.is_empty(),
                    behind: self.next.saturating_sub(number),
                    in_flight: self.in_flight,
                };
                self.habit.refused(&refusal, now);
            }
        } else {
            self.habit.refused_late();
        }
        let hint = signals.retry_after.filter(|hint| !hint.is_zero());
        let (wait, exact) = match hint {
            // Jitter only adds.
            Some(hint) => {
                let jitter = (hint / 100).min(MOST_JITTER).mul_f64(random);
                let believed = self.refusals <= BELIEVED;
                let guess = if believed || !first {
                    Duration::ZERO
                } else {
                    self.guess(pace, random, now)
                };
                (guess.max(hint + jitter), believed)
            }
            None if first => (self.guess(pace, random, now), false),
            None => return,
        };
        // At the end of a hold that is shorter than the server asked for, it has not said that it takes more.
        let exact = exact && wait <= pace.max_hold;
        let until = after(now, wait.min(pace.max_hold));
        if self.prolong(Hold { until, exact })
            && let Some(fleet) = &mut self.fleet
        {
            fleet.refused(until);
        }
    }

    /// How long to wait when the server does not say, or says what has proved wrong.
    fn guess(&self, pace: &Pace, random: f64, now: Instant) -> Duration {
        let wait = self.habit.next_look(now).saturating_duration_since(now);
        let wait = wait.clamp(pace.backoff.first() / 2, pace.backoff.longest());
        let wait = wait.max(self.habit.patience(now));
        wait + (wait / 50).min(MOST_JITTER).mul_f64(random)
    }
}

/// Many processes that were refused together do not come back together.
const MOST_JITTER: Duration = Duration::from_millis(250);
/// So many refusals in a row, and the hints were wrong.
const BELIEVED: u32 = 3;
