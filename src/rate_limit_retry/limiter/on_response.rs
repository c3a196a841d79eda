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
        decide::{AttemptResult, Decision, RetryContext, decide},
        gate::{CostReport, Permit},
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
        let mut info = RateLimitInfo::default();
        let error_response = outcome.as_ref().ok().map(ErrorResponse::of);
        let permanent = error_response
            .is_some_and(|error_response| self.permanent_errors.matches(&error_response));
        let (ended, shed, held, own_hold, bypassed) = match &outcome {
            Ok(response) => {
                let sends = u16::try_from(Attempts::of(response)).unwrap_or(u16::MAX);
                call.sends = call.sends.saturating_add(sends);
                call.token_replaced |= Attempts::is_token_replaced(response.extensions());
                let status = response.status();
                info = self
                    .header_reader
                    .read(&call.keys, status, response.headers(), wall);
                let shed = is_shed(status, response.headers());
                let throttled = shed || info.is_throttle(status);
                let wait = info.retry_after.unwrap_or_default();
                // A 503 with `Retry-After` holds the route only, unless it is about an exhausted quota or about the
                // whole origin, or the user's setting makes it hold the partition.
                let unavailable = status == StatusCode::SERVICE_UNAVAILABLE
                    && throttled
                    && !(permanent || info.global || info.is_exhausted())
                    && !shed
                    && self.unavailable == UnavailableScope::Route;
                // Up to 1 % on top of what the server requests.
                let jitter = (wait / 100).min(MAX_JITTER).mul_f64(self.random.unit());
                let until = add_capped(now, (wait + jitter).min(self.gate.max_hold()));
                let number = permit.number();
                let route_held = unavailable && {
                    let class = call.load.route.unwrap_or(RouteClass::WRITES);
                    // When a request on credit was sent is not known: only later ones release the route.
                    let rejected = if was_on_credit {
                        self.gate.latest_number(&call.keys)
                    } else {
                        number
                    };
                    self.hold_route(call, class, rejected, until, now)
                };
                let quota_outcome = if permanent {
                    // Not a throttle to wait for: no wait restores the quota.
                    Outcome::Sent
                } else if route_held {
                    Outcome::Unavailable { wait }
                } else if !throttled && is_from_cache(response.headers()) {
                    Outcome::Cached
                } else if status.is_server_error() && !throttled && info.is_empty() {
                    // A failure without limits has no information about quotas, and the request may not have been
                    // counted.
                    Outcome::Unknown
                } else if !throttled && (status.is_client_error() || status.is_server_error()) {
                    Outcome::FailedResponse { info: &info }
                } else {
                    Outcome::Response {
                        throttled,
                        info: &info,
                    }
                };
                let cost = match response.extensions().get::<Cost>() {
                    Some(used) => CostReport::Used(used),
                    // The outcome of a permanent rejection is `Sent`, which would charge the estimate.
                    None if permanent && throttled => CostReport::Rejected,
                    None => CostReport::Open,
                };
                if status.is_success()
                    && let Some(credits) = permit.credits()
                {
                    credits.learn(response.headers(), self.header_reader.profile(), &info);
                }
                let settled = permit.settle_with(quota_outcome, cost, now);
                self.learn_resources(call, &info, now);
                for (partition, estimate) in &settled.estimates {
                    self.sinks.emit(&RateLimitEvent::LimitEstimated {
                        partition,
                        limit: estimate.limit,
                        window: estimate.window,
                        rate: estimate.rate,
                    });
                }
                let held_until = settled.held_until.max(route_held.then_some(until));
                let held = held_until.map(|until| until.saturating_duration_since(now));
                if throttled && !permanent {
                    // Without an announced end, and after repeated throttling, another request is the next probe, one
                    // that has retries left.
                    if info.retry_after.is_none() || call.attempt > MAX_PRIORITY_RETRIES {
                        call.sequence = None;
                    }
                    self.emit_each(call, |partition| RateLimitEvent::Throttled {
                        partition,
                        status,
                        held_for: held.unwrap_or_default(),
                    });
                } else if status.is_success() {
                    self.on_success(call);
                    self.release_route(call, number, now);
                }
                let ended = AttemptResult::Response(status, &info);
                (ended, shed, held, settled.own_hold, settled.bypassed)
            }
            Err(error) => {
                // An error carries no count of sends: it stands for one.
                call.sends = call.sends.saturating_add(1);
                let class = self.classifier.classify(&**error);
                let shed = error::is_shed(&**error);
                let quota_outcome = match class {
                    // `ENHANCE_YOUR_CALM` (RFC 9113 §7): throttling without an announced end.
                    _ if shed => Outcome::Response {
                        throttled: true,
                        info: &info,
                    },
                    ErrorClass::NotSent => Outcome::NotSent,
                    ErrorClass::Final if error::is_unsent(&**error) => Outcome::NotSent,
                    ErrorClass::Final => Outcome::Sent,
                    ErrorClass::MaybeProcessed => Outcome::Unknown,
                };
                let settled = permit.settle(quota_outcome, now);
                let held = settled.held_until.filter(|_| shed);
                let held = held.map(|until| until.saturating_duration_since(now));
                if let Some(held_for) = held {
                    // Another request is the next probe.
                    call.sequence = None;
                    self.emit_each(call, |partition| RateLimitEvent::Throttled {
                        partition,
                        // An error has no status; events need one.
                        status: StatusCode::TOO_MANY_REQUESTS,
                        held_for,
                    });
                }
                (
                    AttemptResult::Error(class),
                    shed,
                    held,
                    settled.own_hold,
                    settled.bypassed,
                )
            }
        };
        if bypassed {
            return Next::Return(Self::count_sends(call, outcome));
        }
        let context = RetryContext {
            result: ended,
            shed,
            attempt: call.attempt,
            method: call.method,
            nested: call.nested,
            inner_reason: match &outcome {
                Ok(response) => GaveUp::of(response).map(|gave_up| gave_up.reason),
                Err(_) => inner_gave_up.then_some(GiveUpReason::Retries),
            },
            permanent,
            replayable: request_copy.is_some(),
            has_runtime: Handle::try_current().is_ok(),
            held,
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
        let reason =
            match self.charge_budget(call.account, decide(&context, &self.retry_config), now) {
                Decision::Return => return Next::Return(Self::count_sends(call, outcome)),
                Decision::GiveUp(reason) => reason,
                Decision::RetryAfterHold | Decision::RetryAfterBackoff(_)
                    if !supersede(request_copy) =>
                {
                    GiveUpReason::Body
                }
                Decision::RetryAfterHold => {
                    let wait =
                        own_hold.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
                    return self.retry(call, &context, outcome, wait, request_copy);
                }
                Decision::RetryAfterBackoff(wait) => {
                    return self.retry(call, &context, outcome, wait, request_copy);
                }
            };
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
                let retry_after = info.retry_after.or(held);
                response.extensions_mut().insert(GaveUp {
                    reason,
                    retry_after,
                });
                Ok(response)
            }
            Err(error) if inner_gave_up && call.nested || self.defers_to_outer(&context) => {
                Err(nested::wrap(error))
            }
            error => error,
        };
        Next::Return(Self::count_sends(call, outcome))
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
