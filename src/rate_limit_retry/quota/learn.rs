//! What a quota learns from responses and from other ends of a request.

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
    clock::add_capped,
    rate_limit_retry::headers::{Limit, Signals},
};

impl Quota {
    /// Records the outcome of request `number`. Returns the end of the hold, if the partition is held now.
    ///
    /// `now` may be `None` for all outcomes except responses; then the result is `None`. `random` is in `0.0..1.0`.
    ///
    /// A request without a response that may have been counted is debited from the announced window. One that was not
    /// sent is taken back from the estimate.
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
        // A drop has no `now`: the time of the last send stands in for the end.
        if let (Some(cap), false) = (&mut self.cap, matches!(learnt, Learnt::NotSent))
            && let Some(ended) = now.or(self.used)
        {
            cap.ended(ended);
        }
        // `served`: the response proves that the request was accepted.
        let (signals, throttled, served) = match learnt {
            Learnt::Answer { throttled, signals } => (signals, throttled, !throttled),
            Learnt::Failed { signals } => (signals, false, false),
            // The server has not counted the request: the estimate takes it back.
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
                let until = add_capped(now?, wait.min(pace.max_hold));
                self.part_held = self.part_held.max(Some(until));
                self.quiet = 0;
                // One probe finds out whether other classes of requests are accepted.
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
            // An origin-wide throttle says nothing about this partition's own window.
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

    /// Debits the announced window for a request that may have been counted.
    fn spent(&mut self) {
        if let Some(told) = &mut self.told {
            told.spent();
        }
    }

    /// Returns whether a response is about another partition of the request: it names a limit that is not this one's.
    ///
    /// This partition's limit is learned from requests that no other partition counts.
    fn is_of_another(&mut self, signals: &Signals, about: About) -> bool {
        let named = tightest(&signals.limits).and_then(|(limit, _)| limit.limit);
        if about == About::This {
            self.own = named.or(self.own);
        }
        let known = self.own.zip(named).filter(|_| about == About::OneOfSeveral);
        known.is_some_and(|(own, named)| own != named)
    }

    /// Records a response that is about another partition of the request.
    fn pass_over(&mut self, number: u64, throttled: bool, now: Instant) {
        if throttled {
            self.ramp.unanswered();
        } else {
            self.spent();
            self.accept(number, now);
        }
    }

    /// Records what a response announces about the window.
    ///
    /// Updates the local limit, the doubt, the announced window, and whether the quota is replenished gradually.
    fn note(
        &mut self,
        number: u64,
        throttled: bool,
        served: bool,
        signals: &Signals,
        now: Instant,
    ) {
        // Nothing is announced. A throttle shows that "nothing remains" was right; an accepted request shows that the
        // server no longer announces what remains.
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
        // A late response can update a known window, but not create one that is over.
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
            // Throttled although something remains: another quota, which is not announced, is exhausted.
            self.another = remaining > 0;
            self.gradual = self.is_gradual(remaining, signals.retry_after, now);
        } else {
            self.announced = true;
        }
        if let (Some(soon), Some(told)) = (self.gradual, &mut self.told) {
            let soon = add_capped(now, soon.max(Duration::from_secs(1)));
            told.reset_at = told.reset_at.map(|reset| reset.min(soon));
        }
    }

    /// Returns the wait named by a throttling response, if it shows that the quota is replenished before the reset.
    ///
    /// A short wait that ends with a short window shows nothing: then the earlier result stays. `None` if something
    /// remains or no wait is named.
    fn is_gradual(&self, remaining: u64, hint: Option<Duration>, now: Instant) -> Option<Duration> {
        let hint = hint.filter(|_| remaining == 0)?;
        let reset = self.told.as_ref().and_then(|told| told.furthest);
        match reset.map(|reset| reset.saturating_duration_since(now)) {
            Some(reset) if hint + SAME_WINDOW < reset => Some(hint),
            None if hint <= SHORT => Some(hint),
            _ => self.gradual.filter(|_| hint <= SHORT),
        }
    }

    /// Returns whether a response to a request of an earlier epoch is about the present window: its reset is later
    /// than the one that began the epoch.
    fn is_news(&self, limit: &Limit, now: Instant) -> bool {
        let over = self.look.since.map(|since| since + SAME_WINDOW);
        let reset = limit.reset.map(|reset| add_capped(now, reset));
        self.gradual.is_none() && over.zip(reset).is_some_and(|(over, reset)| reset > over)
    }

    /// Records that a request was accepted, or at least not throttled.
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
        // The window or the estimate limits requests now: slow start has done its work.
        if self.announced && self.told.is_some() || self.habit.is_paced() {
            self.ramp = Ramp::open();
        } else {
            self.ramp.widen();
        }
    }

    /// Records a throttling response and sets or prolongs the hold.
    ///
    /// The hold lasts for the server's hint, if it is believed, or else for the guess of the estimate, in both cases
    /// at most `max_hold`. After [`BELIEVED`] throttles in a row, the longer of both counts.
    fn refuse(
        &mut self,
        number: u64,
        signals: &Signals,
        about: About,
        pace: &Pace,
        random: f64,
        now: Instant,
    ) {
        // Requests of one epoch may be throttled together: they count once.
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
            // Up to 1 %. Jitter only adds: no request is sent sooner than the server asks.
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
            // Throttled late and without a hint: the hold of the first one stands.
            None => return,
        };
        // A hold that `max_hold` cuts short ends before the server has announced that it accepts more.
        let exact = exact && wait <= pace.max_hold;
        let until = add_capped(now, wait.min(pace.max_hold));
        if self.prolong(Hold { until, exact })
            && let Some(fleet) = &mut self.fleet
        {
            fleet.refused(until);
        }
    }

    /// Returns the wait if the server names none, or names waits that have proved too short.
    ///
    /// The wait is the time to the estimate's next probe, within the bounds of the backoff, plus up to 2 % of jitter.
    fn guess(&self, pace: &Pace, random: f64, now: Instant) -> Duration {
        let wait = self.habit.next_look(now).saturating_duration_since(now);
        let wait = wait.clamp(pace.backoff.initial() / 2, pace.backoff.max());
        let wait = wait.max(self.habit.patience(now));
        wait + (wait / 50).min(MOST_JITTER).mul_f64(random)
    }
}

/// Maximum jitter added to a hold, so that processes that were throttled together do not send together.
const MOST_JITTER: Duration = Duration::from_millis(250);
/// Number of consecutive throttles up to which the server's hints are believed.
const BELIEVED: u32 = 3;
