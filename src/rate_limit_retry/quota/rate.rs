//! How fast a server takes requests that says "in a second" whenever one is too many: a token bucket, as a rule.

use std::time::Duration;

use tokio::time::Instant;

use super::admit::Admit;
use crate::clock::after;

/// Counts what is accepted from one refusal to the next. What went in between divided by the time is the rate, give or
/// take one request: the longer the time, the closer. Requests go by the upper bound, so that the next refusal comes
/// when the time has about doubled, and costs one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// The first and the last refusal, and what was accepted between them.
    since: Instant,
    last: Instant,
    total: f64,
    /// Since the last refusal.
    accepted: f64,
    /// What may go at once after a pause; and what was forgone in pauses that were longer.
    burst: f64,
    forgone: f64,
    /// What was measured before a pause.
    before: Option<f64>,
    /// What is lost with each refusal, because the bucket is full before its time is over.
    lost: f64,
    /// When something was accepted last; and whether there were pauses before anything was measured.
    active: Instant,
    idle: bool,
}

impl Rate {
    pub(super) fn new(refused: Instant, burst: u64) -> Self {
        Self {
            since: refused,
            last: refused,
            total: 0.0,
            accepted: 0.0,
            burst: count(burst).max(1.0),
            forgone: 0.0,
            before: None,
            lost: 0.0,
            active: refused,
            idle: false,
        }
    }

    pub(super) fn accepted(&mut self, now: Instant) {
        self.accepted += 1.0;
        self.note_pause(now);
    }

    /// A request was accepted that had been sent before the last refusal came.
    pub(super) fn accepted_late(&mut self) {
        if self.span() > 0.0 {
            self.total += 1.0;
        }
    }

    /// A request was refused that should not have been.
    pub(super) fn refused(&mut self, now: Instant) {
        let passed = (now - self.last).as_secs_f64().max(0.001);
        self.note_pause(now);
        if self.forgone > 0.0 || self.idle {
            // After a pause the bucket was full: that tells its size and not its rate.
            self.before = self.measured().filter(|rate| *rate > 0.0);
            self.burst = (self.burst / 2.0).max(1.0);
            self.since = now;
            self.total = 0.0;
        } else {
            let known = self.measured();
            let odd = known.is_some_and(|rate| {
                (self.accepted + 1.0) / passed < 0.7 * rate
                    || (self.accepted - 1.0) / passed > 1.5 * rate
            });
            if odd {
                // Something has changed.
                self.since = self.last;
                self.total = 0.0;
                self.lost = 0.0;
            } else if let Some(rate) = known.filter(|_| passed < SOON) {
                let missing = rate * passed - self.lost - self.accepted - 1.0;
                self.lost += missing.max(0.0);
            }
            self.total += self.accepted + self.lost;
        }
        self.last = now;
        self.accepted = 0.0;
        self.forgone = 0.0;
        self.idle = false;
    }

    /// Whether requests go by a rate that has been measured.
    pub(super) fn is_known(&self) -> bool {
        self.measured().is_some()
    }

    /// `None` if nothing speaks against one more.
    pub(super) fn admit(&mut self, in_flight: u32, now: Instant) -> Option<Admit> {
        let pace = self.pace()?;
        let earned = self.earned(pace, now);
        let used = self.accepted + f64::from(in_flight);
        let idle = earned - self.forgone - used - self.burst;
        if idle > 1.0 {
            self.forgone += idle;
        }
        let missing = used + 1.0 - (earned - self.forgone);
        (missing > 0.0).then(|| {
            let wait = Duration::from_secs_f64((missing / pace).min(LONGEST) + 0.001);
            Admit::NotBefore(after(now, wait))
        })
    }

    /// Whoever wants more than the server gives gets something at least as often as the server's hints say.
    fn note_pause(&mut self, now: Instant) {
        self.idle |= self.measured().is_none() && now - self.active > 2 * SHORT;
        self.active = now;
    }

    /// Requests a second, as measured.
    pub(super) fn measured(&self) -> Option<f64> {
        if self.span() > 0.0 {
            Some(self.total / self.span())
        } else {
            self.before
        }
    }

    /// Requests a second: the most that the measure allows.
    fn pace(&self) -> Option<f64> {
        let measured = self.span();
        let pace = if measured > 0.0 {
            Some((self.total + 1.0) / measured)
        } else {
            self.before
        };
        pace.map(|pace| pace.max(SLOWEST))
    }

    /// What the pace has earned since the last refusal; more and more when none comes.
    fn earned(&self, pace: f64, now: Instant) -> f64 {
        let passed = (now - self.last).as_secs_f64();
        let usual = self.span().max(1.0);
        let quiet = (passed - usual).max(0.0);
        pace * (passed + quiet * quiet / (2.0 * usual)) - self.lost
    }

    fn span(&self) -> f64 {
        (self.last - self.since).as_secs_f64()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn count(n: u64) -> f64 {
    n as f64
}

/// A refusal so soon after another is due to what was lost in between, in seconds.
const SOON: f64 = 3.0;
/// A server whose refusals end so soon gives out more than this in a second.
const SLOWEST: f64 = 0.4;
/// Nobody waits longer than this for a rate.
const LONGEST: f64 = 3600.0;

/// Servers that count in whole seconds say one or two when it is less.
pub(super) const SHORT: Duration = Duration::from_millis(2200);
