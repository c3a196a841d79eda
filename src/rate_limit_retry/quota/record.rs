//! What a quota learns from responses and from other ends of a request.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Quota,
    announced::{AnnouncedWindow, RESET_TOLERANCE, most_restrictive},
    concurrency::{Cause, ThrottledRequest},
    hold::Hold,
    outcome::{Outcome, Scope},
    pace::{MIN_SILENT_RESPONSES, QuotaConfig},
    slow_start::SlowStart,
    throttle::ThrottleSample,
    token_bucket::MAX_TOKEN_BUCKET_WAIT,
};
use crate::{
    clock::add_capped,
    rate_limit_retry::headers::{Limit, RateLimitInfo},
};

impl Quota {
    /// Records the outcome of request `number`. Returns the end of the hold, if the partition is held now, or the
    /// request alone.
    ///
    /// `now` may be `None` for all outcomes except responses; then the result is `None`. `random` is in `0.0..1.0`.
    ///
    /// A request without a response that may have been counted is debited from the announced window. One that was not
    /// sent is taken back from the estimate.
    pub(crate) fn record(
        &mut self,
        number: u64,
        outcome: Outcome<'_>,
        scope: Scope,
        config: &QuotaConfig,
        random: f64,
        now: Option<Instant>,
    ) -> Option<Instant> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.slow_start.on_completed(number);
        if let Some(fleet) = &mut self.fleet_share {
            fleet.on_completed();
        }
        // A drop has no `now`: the time of the last send stands in for the end.
        if let (Some(cap), false) = (&mut self.local_limit, matches!(outcome, Outcome::NotSent))
            && let Some(ended) = now.or(self.last_used)
        {
            cap.on_completed(ended);
        }
        // `served`: the response proves that the request was accepted.
        let (info, throttled, served) = match outcome {
            Outcome::Response { throttled, info } => (info, throttled, !throttled),
            Outcome::FailedResponse { info } => (info, false, false),
            // The server has not counted the request: the estimate takes it back.
            Outcome::Cached => {
                self.estimator.on_cancelled();
                if number >= self.epoch {
                    self.slow_start.on_success();
                }
                self.silent_responses = self.silent_responses.saturating_add(1);
                return self.held_until(now?);
            }
            Outcome::Unavailable { wait } => {
                self.debit();
                let until = add_capped(now?, wait.min(config.max_hold));
                self.partial_hold = self.partial_hold.max(Some(until));
                self.silent_responses = 0;
                // One probe finds out whether other classes of requests are accepted.
                if number >= self.epoch {
                    self.probe(None);
                }
                return self.held_until(now?);
            }
            Outcome::NotSent => {
                self.estimator.on_cancelled();
                self.concurrency.on_not_sent(number);
                return self.held_until(now?);
            }
            Outcome::Sent => {
                self.debit();
                return self.held_until(now?);
            }
            Outcome::Unknown => {
                self.slow_start.on_no_response();
                self.debit();
                return self.held_until(now?);
            }
        };
        let now = now?;
        let silent = !throttled && info.is_empty();
        let with_this = self.in_flight + 1;
        self.concurrency.on_announced(&info.limits, with_this);
        if served && self.concurrency.on_success(number, with_this, now) {
            self.estimator.retract();
        }
        let mut own_hold = None;
        if self.names_other_limit(info, scope) {
            self.record_for_other(number, throttled, now);
        } else {
            // An origin-wide throttle has no information about this partition's own window.
            if !(throttled && scope == Scope::Origin) {
                self.observe(number, throttled, served, info, now);
            }
            if throttled {
                own_hold = self.on_throttle(number, info, scope, config, random, now);
            } else {
                self.on_success(number, now);
            }
        }
        self.silent_responses = if silent {
            self.silent_responses.saturating_add(1)
        } else {
            0
        };
        self.held_until(now).max(own_hold)
    }

    /// Debits the announced window for a request that may have been counted.
    fn debit(&mut self) {
        if let Some(announced) = &mut self.announced {
            announced.debit();
        }
    }

    /// Returns whether a response is about another partition of the request: it names a limit that is not this one's.
    ///
    /// This partition's limit is learned from requests that no other partition counts.
    fn names_other_limit(&mut self, info: &RateLimitInfo, scope: Scope) -> bool {
        let named = most_restrictive(&info.limits).and_then(|(limit, _)| limit.limit);
        if scope == Scope::Partition {
            self.partition_limit = named.or(self.partition_limit);
        }
        let known = self
            .partition_limit
            .zip(named)
            .filter(|_| scope == Scope::Ambiguous);
        known.is_some_and(|(partition_limit, named)| partition_limit != named)
    }

    /// Records a response that is about another partition of the request.
    fn record_for_other(&mut self, number: u64, throttled: bool, now: Instant) {
        if throttled {
            self.slow_start.on_no_response();
        } else {
            self.debit();
            self.on_success(number, now);
        }
    }

    /// Records what a response announces about the window.
    ///
    /// Updates the local limit, the doubt, the announced window, and whether the quota is replenished gradually.
    fn observe(
        &mut self,
        number: u64,
        throttled: bool,
        served: bool,
        info: &RateLimitInfo,
        now: Instant,
    ) {
        // Nothing is announced. A throttle shows that "nothing remains" was right; an accepted request shows that the
        // server no longer announces what remains.
        let Some((limit, remaining)) = most_restrictive(&info.limits) else {
            if throttled {
                self.contradictions.on_confirmed();
            } else {
                self.is_announced = false;
                if let Some(announced) = &mut self.announced {
                    announced.debit_unannounced();
                }
            }
            return;
        };
        if let Some(cap) = &mut self.local_limit {
            cap.on_announced(limit);
        }
        if let Some(fleet) = &mut self.fleet_share {
            fleet.on_announced();
        }
        if throttled && remaining == 0 {
            self.contradictions.on_confirmed();
        } else if served
            && remaining == 0
            && let Some(announced) = &self.announced
            && announced.is_contradicted(limit.reset, now)
        {
            self.contradictions.on_contradicted();
        }
        // A late response can update a known window, but not create one that is over.
        let stale = number < self.epoch && !self.is_current_window(limit, now);
        match &mut self.announced {
            Some(announced) => announced.observe(limit, remaining, number, self.next_number, now),
            None if stale => {}
            None => {
                let announced =
                    AnnouncedWindow::new(limit, remaining, number, self.next_number, now);
                self.announced = Some(Box::new(announced));
            }
        }
        if throttled {
            // Throttled although something remains: another quota, which is not announced, is exhausted.
            self.unannounced_limit = remaining > 0;
            self.early_refill = self.detect_early_refill(remaining, info.retry_after, now);
        } else {
            self.is_announced = true;
        }
        if let (Some(soon), Some(announced)) = (self.early_refill, &mut self.announced) {
            let soon = add_capped(now, soon.max(Duration::from_secs(1)));
            announced.reset_at = announced.reset_at.map(|reset| reset.min(soon));
        }
    }

    /// Returns the wait named by a throttling response, if it shows that the quota is replenished before the reset.
    ///
    /// A short wait that ends with a short window shows nothing: then the earlier result stays. `None` if something
    /// remains or no wait is named.
    fn detect_early_refill(
        &self,
        remaining: u64,
        hint: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        let hint = hint.filter(|_| remaining == 0)?;
        let reset = self
            .announced
            .as_ref()
            .and_then(|announced| announced.latest_reset);
        match reset.map(|reset| reset.saturating_duration_since(now)) {
            Some(reset) if hint + RESET_TOLERANCE < reset => Some(hint),
            None if hint <= MAX_TOKEN_BUCKET_WAIT => Some(hint),
            _ => self.early_refill.filter(|_| hint <= MAX_TOKEN_BUCKET_WAIT),
        }
    }

    /// Returns whether a response to a request of an earlier epoch is about the present window: its reset is later
    /// than the one that began the epoch.
    fn is_current_window(&self, limit: &Limit, now: Instant) -> bool {
        let over = self.probe.since.map(|since| since + RESET_TOLERANCE);
        let reset = limit.reset.map(|reset| add_capped(now, reset));
        self.early_refill.is_none() && over.zip(reset).is_some_and(|(over, reset)| reset > over)
    }

    /// Records that a request was accepted, or at least not throttled.
    fn on_success(&mut self, number: u64, now: Instant) {
        if let Some(announced) = &mut self.announced {
            announced.on_success();
        }
        if number < self.epoch {
            self.estimator.on_late_success();
            return;
        }
        self.consecutive_throttles = 0;
        self.estimator.on_success(self.probe, now);
        // The window or the estimate limits requests now: slow start has done its work.
        if self.is_announced && self.announced.is_some() || self.estimator.is_pacing_known() {
            self.slow_start = SlowStart::finished();
        } else {
            self.slow_start.on_success();
        }
    }

    /// Records a throttling response and sets or prolongs the hold.
    ///
    /// The hold lasts for the server's hint, if it is believed, or else for the guess of the estimate, in both cases
    /// at most `max_hold`. After [`MAX_TRUSTED_HINTS`] throttles in a row, the longer of both counts.
    ///
    /// If too many requests were in flight, the hint is about this request alone: the result is the end of its wait.
    fn on_throttle(
        &mut self,
        number: u64,
        info: &RateLimitInfo,
        scope: Scope,
        config: &QuotaConfig,
        random: f64,
        now: Instant,
    ) -> Option<Instant> {
        // Requests of one epoch may be throttled together: they count once.
        let first = number >= self.epoch;
        let cause = self.cause(number, info, scope, now);
        let rate = !matches!(cause, Cause::Concurrency { .. });
        if first {
            self.epoch = self.next_number;
            self.consecutive_throttles = self.consecutive_throttles.saturating_add(1);
            // With a rest, it is the limit of another quota.
            let limit = most_restrictive(&info.limits)
                .filter(|(_, remaining)| *remaining == 0)
                .and_then(|(limit, _)| limit.limit);
            if rate && scope != Scope::Origin {
                let sample = ThrottleSample {
                    sent: self.probe.sent,
                    limit,
                    hint: info.retry_after,
                    all_counted: self.silent_responses < MIN_SILENT_RESPONSES,
                    silent: info.retry_after.is_none() && info.limits.is_empty(),
                    sent_since: self.next_number.saturating_sub(number),
                    in_flight: self.in_flight,
                };
                self.estimator.on_throttle(&sample, now);
            }
        } else if rate {
            self.estimator.on_late_throttle();
        }
        let hint = info.retry_after.filter(|hint| !hint.is_zero());
        let (wait, from_server) = match hint {
            // Up to 1 %. Jitter only adds: no request is sent sooner than the server asks.
            Some(hint) => {
                let jitter = (hint / 100).min(MAX_JITTER).mul_f64(random);
                let believed = self.consecutive_throttles <= MAX_TRUSTED_HINTS;
                let guess = if believed || !first {
                    Duration::ZERO
                } else {
                    self.backoff_wait(config, random, now)
                };
                (guess.max(hint + jitter), believed)
            }
            None if cause == (Cause::Rate { decided: true })
                || first && cause == (Cause::Rate { decided: false }) =>
            {
                (self.backoff_wait(config, random, now), false)
            }
            // Throttled late and without a hint: the hold of the first one stands. Concurrency needs none.
            None => return None,
        };
        // A hold that `max_hold` cuts short ends before the server has announced that it accepts more.
        let from_server = from_server && wait <= config.max_hold;
        let until = add_capped(now, wait.min(config.max_hold));
        if cause == (Cause::Concurrency { held: false }) {
            return Some(until);
        }
        if self.extend_hold(Hold { until, from_server })
            && let Some(fleet) = &mut self.fleet_share
        {
            fleet.on_throttle(until);
        }
        None
    }

    /// Returns what a request was throttled for. Only a response to a single partition shows it.
    fn cause(&mut self, number: u64, info: &RateLimitInfo, scope: Scope, now: Instant) -> Cause {
        if scope != Scope::Partition {
            return Cause::Rate { decided: false };
        }
        let throttled = ThrottledRequest {
            number,
            next: self.next_number,
            in_flight: self.in_flight,
            hint: info.retry_after,
            exhausted: most_restrictive(&info.limits).is_some_and(|(_, remaining)| remaining == 0),
        };
        self.concurrency.on_throttle(&throttled, now)
    }

    /// Returns the wait if the server names none, or names waits that have proved too short.
    ///
    /// The wait is the time to the estimate's next probe, within the bounds of the backoff, plus up to 2 % of jitter.
    fn backoff_wait(&self, config: &QuotaConfig, random: f64, now: Instant) -> Duration {
        let wait = self
            .estimator
            .next_probe(now)
            .saturating_duration_since(now);
        let wait = wait.clamp(config.backoff.initial() / 2, config.backoff.max());
        let wait = wait.max(self.estimator.min_wait(now));
        wait + (wait / 50).min(MAX_JITTER).mul_f64(random)
    }
}

/// Maximum jitter added to a hold, so that processes that were throttled together do not send together.
const MAX_JITTER: Duration = Duration::from_millis(250);
/// Number of consecutive throttles up to which the server's hints are believed.
const MAX_TRUSTED_HINTS: u32 = 3;
