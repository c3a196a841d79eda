//! What a quota learns from the outcome of a request.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Quota,
    announced::AnnouncedWindow,
    concurrency::{Cause, ThrottledRequest},
    hold::Hold,
    outcome::{Outcome, Recorded, Scope, Sent},
    pace::{MIN_SILENT_RESPONSES, QuotaConfig},
    slow_start::SlowStart,
    throttle::ThrottleSample,
    tuning::{HINT_RESOLUTION, MIN_EVIDENCE},
    window::Announcement,
    windows::fewest_remaining,
};
use crate::{
    clock::add_capped,
    rate_limit_retry::headers::{Limit, RateLimitInfo},
};

/// A response, and what it proves about its request.
#[derive(Clone, Copy, Debug)]
struct Response<'a> {
    /// The limits that it announces.
    info: &'a RateLimitInfo,
    /// Whether it is a throttle.
    throttled: bool,
    /// Whether it proves that the request was accepted.
    served: bool,
}

impl Quota {
    /// Records the outcome of a request. Returns the ends of the partition's hold and of a hold of this request alone.
    ///
    /// `now` may be `None` for all outcomes except responses; then the result is `None`. `random` is in `0.0..1.0`.
    ///
    /// A request without a response that may have been counted is debited from the announced window. One that was not
    /// sent is taken back from the estimate.
    pub(crate) fn record(
        &mut self,
        sent: Sent<'_>,
        outcome: Outcome<'_>,
        scope: Scope,
        config: &QuotaConfig,
        random: f64,
        now: Option<Instant>,
    ) -> Recorded {
        let own_hold = self.record_outcome(sent, outcome, scope, config, random, now);
        Recorded {
            held_until: now.and_then(|now| self.held_until(now)),
            own_hold,
        }
    }

    /// Records the outcome of a request. Returns the end of a hold of this request alone.
    fn record_outcome(
        &mut self,
        sent: Sent<'_>,
        outcome: Outcome<'_>,
        scope: Scope,
        config: &QuotaConfig,
        random: f64,
        now: Option<Instant>,
    ) -> Option<Instant> {
        self.end(sent, matches!(outcome, Outcome::NotSent), now);
        match outcome {
            Outcome::Response { throttled, info } => {
                let response = Response {
                    info,
                    throttled,
                    served: !throttled,
                };
                self.record_response(sent, response, scope, config, random, now?)
            }
            Outcome::FailedResponse { info } => {
                let response = Response {
                    info,
                    throttled: false,
                    served: false,
                };
                self.record_response(sent, response, scope, config, random, now?)
            }
            Outcome::Unavailable { wait } => {
                self.windows.debit(sent.load, false);
                Some(self.on_unavailable(sent.number, wait.min(config.max_hold), now?))
            }
            // The server has not counted the request: the estimate takes it back.
            Outcome::Cached => {
                self.estimator.on_cancelled();
                if sent.number >= self.epoch {
                    self.slow_start.on_success();
                }
                self.silent_responses = self.silent_responses.saturating_add(1);
                None
            }
            Outcome::NotSent => {
                self.estimator.on_cancelled();
                self.concurrency.on_not_sent(sent.number);
                None
            }
            Outcome::Sent => {
                self.windows.debit(sent.load, false);
                None
            }
            Outcome::Unknown => {
                self.slow_start.on_no_response();
                self.windows.debit(sent.load, false);
                None
            }
        }
    }

    /// Counts a request as no longer in flight.
    fn end(&mut self, sent: Sent<'_>, not_sent: bool, now: Option<Instant>) {
        self.reserved_in_flight.release(&sent.load.cost);
        self.routes_in_flight.remove(sent.load.route);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.slow_start.on_completed(sent.number);
        if let Some(fleet) = &mut self.fleet_share {
            fleet.on_completed();
        }
        // A drop has no `now`: the time of the last send is used instead.
        if let (Some(cap), false) = (&mut self.local_limit, not_sent)
            && let Some(ended) = now.or(self.last_used)
        {
            cap.on_completed(ended);
        }
    }

    /// Records that the server is unavailable for a class of requests. Returns the end of the request's own hold.
    fn on_unavailable(&mut self, number: u64, wait: Duration, now: Instant) -> Instant {
        let until = add_capped(now, wait);
        self.partial_hold = self.partial_hold.max(Some(until));
        self.silent_responses = 0;
        // One probe finds out whether other classes of requests are accepted.
        if number >= self.epoch {
            self.probe(None);
        }
        until
    }

    /// Records a response. Returns the end of a hold of this request alone.
    fn record_response(
        &mut self,
        sent: Sent<'_>,
        response: Response<'_>,
        scope: Scope,
        config: &QuotaConfig,
        random: f64,
        now: Instant,
    ) -> Option<Instant> {
        let (number, info) = (sent.number, response.info);
        let with_this = self.all_in_flight().saturating_add(1);
        self.concurrency.on_announced(&info.limits, with_this);
        if response.served && self.concurrency.on_success(number, with_this, now) {
            self.estimator.retract();
        }
        let mut own_hold = None;
        if self.names_other_limit(info, scope) {
            self.record_for_other(sent, response.throttled, now);
        } else {
            // An origin-wide throttle has no information about this partition's own window.
            if !(response.throttled && scope == Scope::Origin) {
                self.observe(sent, response, now);
            }
            if response.throttled && self.is_of_one_replica(info) {
                own_hold = info.retry_after.map(|wait| add_capped(now, wait));
            } else if response.throttled {
                own_hold = self.on_throttle(number, info, scope, config, random, now);
            } else {
                self.on_success(number, now);
            }
        }
        self.count_silent(!response.throttled && info.is_empty());
        own_hold
    }

    /// Counts responses in a row without information about limits. After many, quotas without a reset are over.
    fn count_silent(&mut self, silent: bool) {
        self.silent_responses = if silent {
            self.silent_responses.saturating_add(1)
        } else {
            0
        };
        if self.silent_responses >= MIN_SILENT_RESPONSES {
            self.windows.end_without_reset();
        }
    }

    /// Returns whether a throttling response shows that one of several replicas has nothing left, while others may
    /// accept requests.
    fn is_of_one_replica(&self, info: &RateLimitInfo) -> bool {
        let of_requests = fewest_remaining(&info.limits);
        of_requests.is_some_and(Limit::is_exhausted) && self.windows.have_replicas()
    }

    /// Returns whether a response is about another partition of the request: it names a limit that is not this one's.
    ///
    /// This partition's limit is learned from requests that no other partition counts.
    fn names_other_limit(&mut self, info: &RateLimitInfo, scope: Scope) -> bool {
        let named = fewest_remaining(&info.limits).and_then(|limit| limit.limit);
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
    fn record_for_other(&mut self, sent: Sent<'_>, throttled: bool, now: Instant) {
        if throttled {
            self.slow_start.on_no_response();
        } else {
            self.windows.debit(sent.load, false);
            self.on_success(sent.number, now);
        }
    }

    /// Records what a response announces: updates the local limit and the windows that it names.
    fn observe(&mut self, sent: Sent<'_>, response: Response<'_>, now: Instant) {
        let Response {
            info,
            throttled,
            served,
        } = response;
        let by = Announcement {
            number: sent.number,
            route: sent.load.route,
            next: self.next_number,
            late: sent.number < self.epoch,
            throttled,
            served,
            in_body: false,
            retry_after: info.retry_after,
            since: self.probe.since,
            now,
        };
        let announced = self.windows.observe(&info.limits, &by);
        // Nothing is announced. A throttle confirms that nothing remained; an accepted request shows that the server no
        // longer announces what remains.
        if !announced.any {
            if throttled {
                for window in self.windows.iter_mut() {
                    window.contradictions.on_confirmed();
                }
            } else {
                self.is_announced = false;
                self.windows.debit(sent.load, true);
            }
            return;
        }
        if let (Some(cap), Some(limit)) = (&mut self.local_limit, fewest_remaining(&info.limits)) {
            cap.on_announced(limit);
        }
        if let Some(fleet) = &mut self.fleet_share {
            fleet.end_start();
        }
        if throttled {
            // Throttled although something remains: another quota, which is not announced, is exhausted.
            self.unannounced_limit = !announced.exhausted;
        } else {
            self.is_announced = announced.requests;
        }
    }

    /// Records that a request was accepted, or at least not throttled.
    fn on_success(&mut self, number: u64, now: Instant) {
        self.windows
            .current_mut()
            .for_each(AnnouncedWindow::on_success);
        if let Some(fleet) = &mut self.fleet_share {
            fleet.on_success(!self.is_announced, now);
        }
        if number < self.epoch {
            self.estimator.on_late_success();
            return;
        }
        self.consecutive_throttles = 0;
        self.estimator.on_success(self.probe, now);
        // The window or the estimate limits requests now: slow start has done its work.
        if self.is_announced && !self.windows.is_empty() || self.estimator.is_pacing_known() {
            self.slow_start = SlowStart::finished();
        } else {
            self.slow_start.on_success();
        }
    }

    /// Records a throttling response and sets or prolongs the hold.
    ///
    /// The hold lasts for the server's hint, if it is believed, or else for the guess of the estimate, in both cases
    /// at most `max_hold`. After [`MIN_EVIDENCE`] throttles in a row, the longer of both counts.
    ///
    /// If concurrency was the cause and the response has overtaken others, the hint concerns this request alone: the
    /// result is the end of its wait.
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
        if let Some(fleet) = &mut self.fleet_share {
            fleet.end_start();
        }
        let cause = self.cause(number, info, scope, now);
        if first {
            self.epoch = self.next_number;
            self.consecutive_throttles = self.consecutive_throttles.saturating_add(1);
        }
        if !matches!(cause, Cause::Concurrency { .. }) {
            self.estimate_throttle(number, info, first, scope, now);
        }
        let (wait, from_server) = match self.hinted_wait(info, now) {
            Some(hint) => self.believed_wait(hint, first, config, random, now),
            None if cause == (Cause::Rate { decided: true })
                || first && cause == (Cause::Rate { decided: false }) =>
            {
                (self.backoff_wait(config, random, now), false)
            }
            // Throttled late and without a hint: the hold of the first one remains. Concurrency needs no hold.
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

    /// Records a throttle by a rate in the estimate. `first`: it is the first of its epoch.
    fn estimate_throttle(
        &mut self,
        number: u64,
        info: &RateLimitInfo,
        first: bool,
        scope: Scope,
        now: Instant,
    ) {
        if !first {
            self.estimator.on_late_throttle();
        } else if scope != Scope::Origin {
            // If something remains, the limit is not that of the quota that has throttled.
            let limit = fewest_remaining(&info.limits)
                .filter(|limit| limit.is_exhausted())
                .and_then(|limit| limit.limit);
            let sample = ThrottleSample {
                sent: self.probe.sent,
                limit,
                hint: info.retry_after,
                // A log of what this process has sent says little about what a fleet has.
                all_counted: self.silent_responses < MIN_SILENT_RESPONSES && !self.is_in_fleet(),
                silent: info.retry_after.is_none() && info.limits.is_empty(),
                sent_since: self.next_number.saturating_sub(number),
                in_flight: self.all_in_flight(),
            };
            self.estimator.on_throttle(&sample, now);
        }
    }

    /// Returns whether other processes share the quota.
    fn is_in_fleet(&self) -> bool {
        let fleet = self.fleet_share.as_ref();
        fleet.is_some_and(|fleet| fleet.processes > 1)
    }

    /// Returns the wait that a throttling response names, or the refill of one unit if it names a reset that means
    /// "full again".
    fn hinted_wait(&self, info: &RateLimitInfo, now: Instant) -> Option<Duration> {
        let hint = info.retry_after.filter(|hint| !hint.is_zero());
        let reset = hint.filter(|_| !info.is_requested);
        let refilled = reset.and_then(|reset| self.windows.refill_instead_of(reset, now));
        refilled.or(hint)
    }

    /// Returns the wait after a response that names one, and whether it is believed: not if several in a row were too
    /// short. Then the estimate's wait counts if it is longer.
    ///
    /// Includes up to 1 % of jitter. Jitter only adds: no request is sent sooner than the server asks.
    fn believed_wait(
        &self,
        hint: Duration,
        first: bool,
        config: &QuotaConfig,
        random: f64,
        now: Instant,
    ) -> (Duration, bool) {
        let jitter = (hint / 100).min(HINT_RESOLUTION / 4).mul_f64(random);
        let believed = self.consecutive_throttles <= MIN_EVIDENCE;
        let guess = if believed || !first {
            Duration::ZERO
        } else {
            self.backoff_wait(config, random, now)
        };
        (guess.max(hint + jitter), believed)
    }

    /// Returns why a request was throttled. Only a response that concerns a single partition shows the cause.
    fn cause(&mut self, number: u64, info: &RateLimitInfo, scope: Scope, now: Instant) -> Cause {
        if scope != Scope::Partition {
            return Cause::Rate { decided: false };
        }
        let throttled = ThrottledRequest {
            number,
            next: self.next_number,
            in_flight: self.all_in_flight(),
            hint: info.retry_after,
            exhausted: fewest_remaining(&info.limits).is_some_and(Limit::is_exhausted),
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
        wait + (wait / 50).min(HINT_RESOLUTION / 4).mul_f64(random)
    }
}
