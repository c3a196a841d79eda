//! The end of an attempt: what it reports to the quotas, and whether the request is sent again.

use std::{error::Error, num::NonZeroU64, time::Duration};

use http::{Response, StatusCode};
use http_body::Body;
use tokio::{runtime::Handle, time::Instant};

use super::{Call, Limiter, nested, shed::is_shed};
use crate::{
    Attempts, BoxError, ErrorClass,
    call::{copy::Resend, drain::max_drain},
    clock::add_capped,
    error,
    rate_limit_retry::{
        Cost, GaveUp, GiveUpReason, RateLimitEvent,
        budget::Account,
        decide::{AttemptResult, Decision, MethodClass, RetryContext, decide},
        gate::{CostReport, Permit, Settled},
        headers::{RateLimitInfo, is_from_cache},
        permanent_errors::ErrorResponse,
        quota::Outcome,
        route::{RouteClass, UnavailableScope},
    },
};

/// What to do after an attempt. `K` is the copy of the request that is sent again.
///
/// The caller, not the limiter, drains and waits, so that the limiter holds nothing in the meantime.
#[derive(Debug)]
pub(crate) enum Next<RB, K> {
    /// Return this outcome to the caller.
    Return(Result<Response<RB>, BoxError>),
    /// Send the copy again after this wait. The response, if there is one, is drained first.
    Retry(Option<Response<RB>>, Duration, K),
}

/// A response, and what is known about it before it is recorded.
struct Received<'r, 'i, RB> {
    response: &'r Response<RB>,
    /// Its fields about limits.
    info: &'i RateLimitInfo,
    /// Whether it reports an exhausted quota that no wait restores.
    permanent: bool,
    /// Whether its request was sent on credit.
    was_on_credit: bool,
}

/// An attempt whose outcome has been recorded.
struct Ended<'a> {
    result: AttemptResult<'a>,
    /// Whether the server rejected the request because of overload, and reported that by other means than the status.
    shed: bool,
    /// How long the request would be held if it were sent again.
    held: Option<Duration>,
    /// The end of a hold of this request alone.
    own_hold: Option<Instant>,
    /// Whether the gate is bypassed.
    bypassed: bool,
    /// Whether no wait restores the quota.
    permanent: bool,
    /// Whether an inner layer of the same kind has given up with this error.
    inner_gave_up: bool,
}

impl<'i, RB> Received<'_, 'i, RB> {
    /// Returns the outcome for the quotas, unless the response holds a route. See [`Limiter::on_response`].
    fn outcome(&self, throttled: bool) -> Outcome<'i> {
        let (status, info) = (self.response.status(), self.info);
        if self.permanent {
            // Not a throttle to wait for: no wait restores the quota.
            Outcome::Sent
        } else if throttled {
            Outcome::Response { throttled, info }
        } else if is_from_cache(self.response.headers()) {
            Outcome::Cached
        } else if status.is_server_error() && info.is_empty() {
            // A failure without limits has no information about quotas, and the request may not have been counted.
            Outcome::Unknown
        } else if status.is_client_error() || status.is_server_error() {
            Outcome::FailedResponse { info }
        } else {
            Outcome::Response { throttled, info }
        }
    }
}

impl Limiter {
    /// Records a response that needs no decision, as most do, and returns `true`. It is a plain success of
    /// the first send on the fast path, and has no fields about limits, or the same as the responses before.
    ///
    /// Such a response needs no lock that other threads take, and no clock. Otherwise
    /// [`on_response`](Self::on_response) takes the slow path.
    #[inline]
    pub(crate) fn finish<RB>(
        &self,
        call: &Call,
        permit: &mut Permit,
        response: &Response<RB>,
    ) -> bool {
        let finished = call.sends == 0
            && response.status().is_success()
            && if permit.is_uncounted() {
                // Scans the names of the fields, and reads no value.
                !self.header_reader.may_have_limits(response.headers())
            } else {
                permit.finish_on_credit(response.headers(), self.header_reader.profile())
            };
        if finished {
            self.on_success(call);
        }
        finished
    }

    /// Credits a success to the retry budget of the call's partition. One relaxed atomic addition to this shard's
    /// counter.
    #[inline]
    pub(crate) fn on_success(&self, call: &Call) {
        self.budget.deposit(call.account);
    }

    /// Reports the outcome of an attempt to its partitions, emits events, and decides what follows.
    ///
    /// `request_copy` is the copy of the request, if it can still be sent. Before it is sent, the attempt that has
    /// ended stops reading the body.
    ///
    /// What is recorded in the partitions depends on the end of the attempt. The first row that matches applies:
    ///
    /// | end | outcome |
    /// |---|---|
    /// | response to an exhausted quota that no wait restores | [`Outcome::Sent`] |
    /// | 503 that holds a route only | [`Outcome::Unavailable`] |
    /// | response from a cache, no throttle | [`Outcome::Cached`] |
    /// | 5xx without limits, no throttle | [`Outcome::Unknown`] |
    /// | 4xx or 5xx, no throttle | [`Outcome::FailedResponse`] |
    /// | any other response | [`Outcome::Response`] |
    /// | error with `ENHANCE_YOUR_CALM` (RFC 9113 §7) | [`Outcome::Response`], throttled |
    /// | error, request not sent | [`Outcome::NotSent`] |
    /// | final error | [`Outcome::Sent`], or [`Outcome::NotSent`] if the error shows it |
    /// | any other error | [`Outcome::Unknown`] |
    ///
    /// While the gate is bypassed, the outcome is reported and returned, and nothing is retried.
    ///
    /// # Order
    ///
    /// 1. The outcome is recorded in all partitions. This settles the permit, so that waiters proceed before the
    ///    response is drained.
    /// 2. Events about the outcome are emitted, outside every lock.
    /// 3. [`decide`] determines what follows, the retry budget is charged, and the copy of the request is checked.
    /// 4. The retry or the reason to give up is emitted.
    ///
    /// The order of 1 and 3 matters: the hold that the response causes is an input of the decision.
    pub(crate) fn on_response<RB: Body, K: Resend>(
        &self,
        call: &mut Call,
        mut permit: Permit,
        outcome: Result<Response<RB>, BoxError>,
        request_copy: &mut Option<K>,
    ) -> Next<RB, K> {
        let was_on_credit = permit.count();
        if was_on_credit {
            // A retry keeps its position.
            call.sequence = permit.sequence().and_then(NonZeroU64::new);
        } else if let Ok(response) = &outcome
            && self.finish(call, &mut permit, response)
        {
            return Next::Return(outcome);
        }
        // The fast path needs no route; a hold, a named quota and a retry do.
        if call.load.route.is_none()
            && let Some((method, path)) = request_copy.as_ref().and_then(Resend::method_and_path)
        {
            call.load.route = Some(RouteClass::of(method, path));
            call.prefix = Some(RouteClass::prefix(path));
        }
        // The slow path. From here on the outcome of a request on the fast path is counted, too.
        let (outcome, inner_gave_up) = nested::unwrap(outcome);
        let (now, wall) = self.clock.now_and_wall();
        let permit = if permit.is_uncounted() {
            self.gate.enter_late(&call.keys, now)
        } else {
            permit
        };
        let error_response = outcome.as_ref().ok().map(ErrorResponse::of);
        let permanent = error_response
            .is_some_and(|error_response| self.permanent_errors.matches(&error_response));
        let info = match &outcome {
            Ok(response) => {
                let (status, headers) = (response.status(), response.headers());
                self.header_reader.read(&call.keys, status, headers, wall)
            }
            Err(_) => RateLimitInfo::default(),
        };
        let ended = match &outcome {
            Ok(response) => {
                let response = Received {
                    response,
                    info: &info,
                    permanent,
                    was_on_credit,
                };
                self.record_response(call, permit, &response, now)
            }
            Err(error) => Ended {
                inner_gave_up,
                ..self.record_error(call, permit, &**error, now)
            },
        };
        if ended.bypassed {
            return Next::Return(Self::count_sends(call, outcome));
        }
        self.follow_up(call, &ended, outcome, request_copy, now)
    }

    /// Decides what follows an attempt that has been recorded: a retry, or the return of its outcome.
    fn follow_up<RB: Body, K: Resend>(
        &self,
        call: &mut Call,
        ended: &Ended<'_>,
        outcome: Result<Response<RB>, BoxError>,
        request_copy: &mut Option<K>,
        now: Instant,
    ) -> Next<RB, K> {
        let context = RetryContext {
            result: ended.result,
            shed: ended.shed,
            attempt: call.attempt,
            method: call.method,
            nested: call.nested,
            inner_reason: match &outcome {
                Ok(response) => GaveUp::of(response).map(|gave_up| gave_up.reason),
                Err(_) => ended.inner_gave_up.then_some(GiveUpReason::Retries),
            },
            permanent: ended.permanent,
            replayable: request_copy.is_some(),
            has_runtime: Handle::try_current().is_ok(),
            held: ended.held,
            backoff: self
                .transient_backoff
                .wait(call.attempt, self.random.unit()),
            max_drain: outcome.as_ref().map_or(Duration::ZERO, |response| {
                max_drain(response, self.deadline)
            }),
            time_left: call
                .deadline
                .at()
                .map(|at| at.saturating_duration_since(now)),
        };
        // The budget is charged only for a retry after a transient failure. The copy is checked last, because the check
        // ends the reading of the body by the attempt before.
        let decision = self.charge_budget(call.account, decide(&context, &self.retry_config), now);
        let reason = match decision {
            Decision::Return => return Next::Return(Self::count_sends(call, outcome)),
            Decision::GiveUp(reason) => reason,
            Decision::RetryAfterHold | Decision::RetryAfterBackoff(_)
                if !supersede(request_copy) =>
            {
                GiveUpReason::Body
            }
            Decision::RetryAfterHold => {
                let wait = ended
                    .own_hold
                    .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
                return self.retry(call, &context, outcome, wait, request_copy);
            }
            Decision::RetryAfterBackoff(wait) => {
                return self.retry(call, &context, outcome, wait, request_copy);
            }
        };
        Next::Return(self.give_up(call, &context, outcome, reason, ended))
    }

    /// Records a response in the partitions and emits the events about it.
    fn record_response<'i, RB>(
        &self,
        call: &mut Call,
        permit: Permit,
        received: &Received<'_, 'i, RB>,
        now: Instant,
    ) -> Ended<'i> {
        let (response, info) = (received.response, received.info);
        let sends = u16::try_from(Attempts::of(response)).unwrap_or(u16::MAX);
        call.sends = call.sends.saturating_add(sends);
        call.token_replaced |= Attempts::is_token_replaced(response.extensions());
        let status = response.status();
        let shed = is_shed(status, response.headers());
        let throttled = shed || info.is_throttle(status);
        let number = permit.number();
        // When a request on credit was sent is not known: only later ones release the route.
        let rejected = (!received.was_on_credit).then_some(number);
        // Drawn for each response, so that a seed has the same effect whatever the responses are.
        let random = self.random.unit();
        let route_held_until = (throttled && self.holds_route(received, shed))
            .then(|| self.hold_route_of(call, info, rejected, random, now))
            .flatten();
        let outcome = if route_held_until.is_some() {
            Outcome::Unavailable {
                wait: info.retry_after.unwrap_or_default(),
            }
        } else {
            received.outcome(throttled)
        };
        let cost = match response.extensions().get::<Cost>() {
            Some(used) => CostReport::Used(used),
            // The outcome of a permanent rejection is `Sent`, which would charge the estimate.
            None if received.permanent && throttled => CostReport::Rejected,
            None => CostReport::Open,
        };
        if status.is_success()
            && let Some(credits) = permit.credits()
        {
            credits.learn(response.headers(), self.header_reader.profile(), info);
        }
        let settled = permit.settle_with(outcome, cost, now);
        self.learn_resources(call, info, now);
        self.emit_estimates(&settled);
        let held_until = settled.held_until.max(route_held_until);
        let held = held_until.map(|until| until.saturating_duration_since(now));
        if throttled && !received.permanent {
            // Without an announced end, and after repeated throttling, another request is the next probe, one that has
            // retries left.
            if info.retry_after.is_none() || call.attempt > MAX_PRIORITY_RETRIES {
                call.sequence = None;
            }
            self.emit_throttled(call, status, held.unwrap_or_default());
        } else if status.is_success() {
            self.on_success(call);
            self.release_route(call, number, now);
        }
        Ended {
            result: AttemptResult::Response(status, info),
            shed,
            held,
            own_hold: settled.own_hold,
            bypassed: settled.bypassed,
            permanent: received.permanent,
            inner_gave_up: false,
        }
    }

    /// Returns whether a throttling response holds its route only: a 503 with `Retry-After`, unless it is about an
    /// exhausted quota or about the whole origin, or the user's setting makes it hold the partition.
    fn holds_route<RB>(&self, received: &Received<'_, '_, RB>, shed: bool) -> bool {
        received.response.status() == StatusCode::SERVICE_UNAVAILABLE
            && !(received.permanent || received.info.global || received.info.is_exhausted())
            && !shed
            && self.unavailable == UnavailableScope::Route
    }

    /// Holds the call's route for as long as the server requests. Returns the end of the hold. `None` if the route is not
    /// known, or there is no room for it: then the whole partition is to be held.
    ///
    /// `rejected`: the number of the rejected request. `None`: the last one that was sent.
    fn hold_route_of(
        &self,
        call: &mut Call,
        info: &RateLimitInfo,
        rejected: Option<u64>,
        random: f64,
        now: Instant,
    ) -> Option<Instant> {
        // Without a copy, the method of a request on the fast path is not known any more: only its kind is.
        let is_write = call.method == MethodClass::Other;
        let class = call.load.route.or(is_write.then_some(RouteClass::WRITES))?;
        let wait = info.retry_after.unwrap_or_default();
        // Up to 1 % on top of what the server requests.
        let jitter = (wait / 100).min(MAX_JITTER).mul_f64(random);
        let until = add_capped(now, (wait + jitter).min(self.gate.max_hold()));
        let rejected = rejected.unwrap_or_else(|| self.gate.latest_number(&call.keys));
        self.hold_route(call, class, rejected, until, now)
            .then_some(until)
    }

    /// Records an error in the partitions and emits the event about it.
    fn record_error(
        &self,
        call: &mut Call,
        permit: Permit,
        error: &(dyn Error + Send + Sync + 'static),
        now: Instant,
    ) -> Ended<'static> {
        // An error carries no count of sends: it stands for one.
        call.sends = call.sends.saturating_add(1);
        let class = self.classifier.classify(error);
        let shed = error::is_shed(error);
        let outcome = match class {
            // `ENHANCE_YOUR_CALM` (RFC 9113 §7): throttling without an announced end.
            _ if shed => Outcome::Response {
                throttled: true,
                info: &RateLimitInfo::default(),
            },
            ErrorClass::NotSent => Outcome::NotSent,
            ErrorClass::Final if error::is_unsent(error) => Outcome::NotSent,
            ErrorClass::Final => Outcome::Sent,
            ErrorClass::MaybeProcessed => Outcome::Unknown,
        };
        let settled = permit.settle(outcome, now);
        let held = settled.held_until.filter(|_| shed);
        let held = held.map(|until| until.saturating_duration_since(now));
        if let Some(held_for) = held {
            // Another request is the next probe.
            call.sequence = None;
            // An error has no status; events need one.
            self.emit_throttled(call, StatusCode::TOO_MANY_REQUESTS, held_for);
        }
        Ended {
            result: AttemptResult::Error(class),
            shed,
            held,
            own_hold: settled.own_hold,
            bypassed: settled.bypassed,
            permanent: false,
            inner_gave_up: false,
        }
    }

    /// Emits the estimates that an outcome has changed.
    fn emit_estimates(&self, settled: &Settled) {
        for (partition, estimate) in &settled.estimates {
            self.sinks.emit(&RateLimitEvent::LimitEstimated {
                partition,
                limit: estimate.limit,
                window: estimate.window,
                rate: estimate.rate,
            });
        }
    }

    /// Emits that the call's partitions are held.
    fn emit_throttled(&self, call: &Call, status: StatusCode, held_for: Duration) {
        self.emit_each(call, |partition| RateLimitEvent::Throttled {
            partition,
            status,
            held_for,
        });
    }

    /// Emits that the call gives up, and marks the outcome with the reason and the wait that would be needed.
    fn give_up<RB>(
        &self,
        call: &Call,
        context: &RetryContext<'_>,
        outcome: Result<Response<RB>, BoxError>,
        reason: GiveUpReason,
        ended: &Ended<'_>,
    ) -> Result<Response<RB>, BoxError> {
        let attempt = call.attempt;
        let (status, error) = status_and_error(&outcome);
        self.emit_each(call, |partition| RateLimitEvent::GaveUp {
            partition,
            attempt,
            reason,
            status,
            error,
        });
        let outcome = match outcome {
            Ok(mut response) => {
                let wait = match ended.result {
                    AttemptResult::Response(_, info) => info.retry_after,
                    AttemptResult::Error(_) => None,
                };
                response.extensions_mut().insert(GaveUp {
                    reason,
                    retry_after: wait.or(ended.held),
                });
                Ok(response)
            }
            Err(error) if ended.inner_gave_up && call.nested || self.defers_to_outer(context) => {
                Err(nested::wrap(error))
            }
            error => error,
        };
        Self::count_sends(call, outcome)
    }

    /// Returns whether a failed attempt of an outer layer is left to that layer to retry: this layer would have
    /// retried it, were it not nested.
    fn defers_to_outer(&self, context: &RetryContext<'_>) -> bool {
        let first = RetryContext {
            nested: false,
            attempt: 1,
            ..*context
        };
        context.nested
            && matches!(
                decide(&first, &self.retry_config),
                Decision::RetryAfterBackoff(_)
            )
    }

    /// Withdraws a retry after a transient failure from the partition's budget, or gives up. Waits for a quota are
    /// free.
    ///
    /// With an empty budget, [`GiveUpReason::Budget`] replaces the decision. Charged after the checks of
    /// [`decide`], so that a retry that is not made for another reason does not use up the budget.
    fn charge_budget(&self, account: Account, decision: Decision, now: Instant) -> Decision {
        match decision {
            Decision::RetryAfterBackoff(_) if !self.budget.withdraw(account, now) => {
                Decision::GiveUp(GiveUpReason::Budget)
            }
            other => other,
        }
    }

    /// Emits the retry, counts the attempt, and returns the copy to send after `wait`.
    fn retry<RB, K>(
        &self,
        call: &mut Call,
        context: &RetryContext<'_>,
        outcome: Result<Response<RB>, BoxError>,
        wait: Duration,
        request_copy: &mut Option<K>,
    ) -> Next<RB, K> {
        // `decide` returns no retry without a copy.
        let Some(request_copy) = request_copy.take() else {
            return Next::Return(Self::count_sends(call, outcome));
        };
        let attempt = call.attempt;
        let (status, error) = status_and_error(&outcome);
        self.emit_each(call, |partition| RateLimitEvent::Retrying {
            partition,
            attempt,
            wait,
            status,
            error,
        });
        call.attempt = call.attempt.saturating_add(1);
        call.possibly_processed |= context.is_possibly_processed();
        Next::Retry(outcome.ok(), wait, request_copy)
    }

    /// Records the number of sends in a response to return.
    ///
    /// An outer layer adds this number to its own. An error carries none, so that it counts as one send.
    fn count_sends<RB>(
        call: &Call,
        mut outcome: Result<Response<RB>, BoxError>,
    ) -> Result<Response<RB>, BoxError> {
        if let Ok(response) = &mut outcome {
            Attempts::record(response, call.sends.into(), call.token_replaced);
        }
        outcome
    }
}

/// Returns the status or the error of an outcome, for an event.
fn status_and_error<RB>(
    outcome: &Result<Response<RB>, BoxError>,
) -> (
    Option<StatusCode>,
    Option<&(dyn Error + Send + Sync + 'static)>,
) {
    match outcome {
        Ok(response) => (Some(response.status()), None),
        Err(error) => (None, Some(&**error)),
    }
}

/// Ends the reading of the body by the earlier attempt. Clears the copy and returns `false` if the copy can no longer
/// be sent in full.
fn supersede<K: Resend>(request_copy: &mut Option<K>) -> bool {
    *request_copy = request_copy.take().filter(Resend::supersede);
    request_copy.is_some()
}

/// Maximum jitter added to the hold of a route, so that requests that were held together are not sent together.
const MAX_JITTER: Duration = Duration::from_millis(250);
/// Number of attempts for which a throttled request keeps its position before requests that arrived later.
const MAX_PRIORITY_RETRIES: u32 = 2;
