//! What follows an attempt.

use std::{error::Error, time::Duration};

use http::{Response, StatusCode};
use http_body::Body;
use tokio::{runtime::Handle, time::Instant};

use super::{Call, Limiter, nested, shed::is_shed};
use crate::{
    Attempts, BoxError, ErrorClass,
    call::{copy::Resend, drain::max_drain},
    clock::after,
    error,
    rate_limit_retry::{
        GaveUp, GiveUpReason, RateLimitEvent,
        budget::Account,
        decision::{Decision, Ended, Facts, decide},
        gate::Ticket,
        headers::{Signals, is_from_a_cache, may_speak},
        permanent::Refusal,
        quota::Learnt,
        route::{RouteClass, UnavailableScope},
    },
};

/// What to do after an attempt. `K` is the copy that is sent again.
#[derive(Debug)]
pub(crate) enum Next<RB, K> {
    Return(Result<Response<RB>, BoxError>),
    /// Send again after this wait; the response, if there is one, is drained first.
    Again(Option<Response<RB>>, Duration, K),
}

impl Limiter {
    /// Whether nothing follows from an attempt's response, as from most: the first attempt of a request that went past the
    /// gate, and a plain success, which says nothing about limits and has been sent once.
    #[inline]
    pub(crate) fn is_final<RB>(call: &Call, ticket: &Ticket, response: &Response<RB>) -> bool {
        ticket.is_free()
            && call.sends == 0
            && response.status().is_success()
            && !may_speak(response.headers())
    }

    /// A success pays for retries in its partition.
    #[inline]
    pub(crate) fn on_success(&self, call: &Call) {
        self.budget.deposit(call.account);
    }

    /// Learns from the end of an attempt, and decides what follows. `kept` is the copy, if it can still be sent. Before it
    /// is sent, the attempt that has ended stops reading the body.
    pub(crate) fn conclude<RB: Body, K: Resend>(
        &self,
        call: &mut Call,
        ticket: Ticket,
        outcome: Result<Response<RB>, BoxError>,
        kept: &mut Option<K>,
    ) -> Next<RB, K> {
        if let Ok(response) = &outcome
            && Self::is_final(call, &ticket, response)
        {
            self.on_success(call);
            return Next::Return(outcome);
        }
        let (outcome, given_up_below) = nested::open(outcome);
        let (now, wall) = self.clock.both();
        let ticket = if ticket.is_free() {
            self.gate.adopt(&call.keys, now)
        } else {
            ticket
        };
        let mut signals = Signals::default();
        let refusal = outcome.as_ref().ok().map(Refusal::of);
        let permanent = refusal.is_some_and(|refusal| self.permanent.is(&refusal));
        let (ended, shed, held, bypassed) = match &outcome {
            Ok(response) => {
                let sends = u16::try_from(Attempts::of(response)).unwrap_or(u16::MAX);
                call.sends = call.sends.saturating_add(sends);
                call.token_replaced |= Attempts::is_token_replaced(response.extensions());
                let status = response.status();
                signals = self
                    .reader
                    .read(&call.keys, status, response.headers(), wall);
                let shed = is_shed(status, response.headers());
                let throttled = shed || signals.is_throttle(status);
                let wait = signals.retry_after.unwrap_or_default();
                let unavailable = status == StatusCode::SERVICE_UNAVAILABLE
                    && throttled
                    && !(permanent || signals.global || signals.is_exhausted())
                    && !shed
                    && self.unavailable == UnavailableScope::Route;
                let jitter = (wait / 100).min(MOST_JITTER).mul_f64(self.random.unit());
                let until = after(now, (wait + jitter).min(self.gate.max_hold()));
                let route_held = unavailable && {
                    let class = call.route.or_else(|| {
                        let line = kept.as_ref().and_then(Resend::method_and_path);
                        line.map(|(method, path)| RouteClass::of(method, path))
                    });
                    self.hold_route(call, class.unwrap_or(RouteClass::WRITES), until, now)
                };
                let learnt = if permanent {
                    // What no wait restores is not waited for.
                    Learnt::Sent
                } else if route_held {
                    Learnt::Unavailable { wait }
                } else if !throttled && is_from_a_cache(response.headers()) {
                    Learnt::Cached
                } else if status.is_server_error() && !throttled && signals.is_empty() {
                    // A failure says nothing about quotas, and may not have been counted.
                    Learnt::Unknown
                } else if !throttled && (status.is_client_error() || status.is_server_error()) {
                    Learnt::Failed { signals: &signals }
                } else {
                    Learnt::Answer {
                        throttled,
                        signals: &signals,
                    }
                };
                let settled = ticket.settle(learnt, now);
                for (partition, lesson) in &settled.lessons {
                    self.sinks.emit(&RateLimitEvent::Learnt {
                        partition,
                        allowance: lesson.allowance,
                        period: lesson.period,
                        rate: lesson.rate,
                    });
                }
                let held_until = settled.held_until.max(route_held.then_some(until));
                let held = held_until.map(|until| until.saturating_duration_since(now));
                if throttled && !permanent {
                    // Where nobody knows until when, the next to look is somebody else, who has retries left.
                    if signals.retry_after.is_none() || call.attempt > PATIENCE {
                        call.arrival = None;
                    }
                    self.tell_each(call, |partition| RateLimitEvent::Throttled {
                        partition,
                        status,
                        held_for: held.unwrap_or_default(),
                    });
                } else if status.is_success() {
                    self.on_success(call);
                }
                let ended = Ended::Response(status, &signals);
                (ended, shed, held, settled.bypassed)
            }
            Err(error) => {
                call.sends = call.sends.saturating_add(1);
                let class = self.classifier.classify(&**error);
                let shed = error::is_shed(&**error);
                let learnt = match class {
                    _ if shed => Learnt::Answer {
                        throttled: true,
                        signals: &signals,
                    },
                    ErrorClass::NotSent => Learnt::NotSent,
                    ErrorClass::Final if error::is_unsent(&**error) => Learnt::NotSent,
                    ErrorClass::Final => Learnt::Sent,
                    ErrorClass::MaybeProcessed => Learnt::Unknown,
                };
                let settled = ticket.settle(learnt, now);
                let held = settled.held_until.filter(|_| shed);
                let held = held.map(|until| until.saturating_duration_since(now));
                if let Some(held_for) = held {
                    call.arrival = None;
                    self.tell_each(call, |partition| RateLimitEvent::Throttled {
                        partition,
                        status: StatusCode::TOO_MANY_REQUESTS,
                        held_for,
                    });
                }
                (Ended::Error(class), shed, held, settled.bypassed)
            }
        };
        if bypassed {
            return Next::Return(self.finish(call, outcome));
        }
        let facts = Facts {
            ended,
            shed,
            attempt: call.attempt,
            method: call.method,
            nested: call.nested,
            given_up: match &outcome {
                Ok(response) => GaveUp::of(response).map(|gave_up| gave_up.reason),
                Err(_) => given_up_below.then_some(GiveUpReason::Retries),
            },
            permanent,
            replayable: kept.is_some(),
            has_runtime: Handle::try_current().is_ok(),
            held,
            backoff: self.fault_backoff.wait(call.attempt, self.random.unit()),
            drained_for: outcome.as_ref().map_or(Duration::ZERO, |response| {
                max_drain(response, self.deadline)
            }),
            left: call.deadline.map(|at| at.saturating_duration_since(now)),
        };
        let reason = match self.charge(call.account, decide(&facts, &self.policy), now) {
            Decision::Return => return Next::Return(self.finish(call, outcome)),
            Decision::GiveUp(reason) => reason,
            Decision::AfterHold | Decision::AfterFault(_) if !supersede(kept) => GiveUpReason::Body,
            Decision::AfterHold => return self.again(call, &facts, outcome, Duration::ZERO, kept),
            Decision::AfterFault(wait) => return self.again(call, &facts, outcome, wait, kept),
        };
        let attempt = call.attempt;
        let (status, error) = ended_with(&outcome);
        self.tell_each(call, |partition| RateLimitEvent::GaveUp {
            partition,
            attempt,
            reason,
            status,
            error,
        });
        let outcome = match outcome {
            Ok(mut response) => {
                let retry_after = signals.retry_after.or(held);
                response.extensions_mut().insert(GaveUp {
                    reason,
                    retry_after,
                });
                Ok(response)
            }
            Err(error) if given_up_below && call.nested || self.leaves_it(&facts) => {
                Err(nested::close(error))
            }
            error => error,
        };
        Next::Return(self.finish(call, outcome))
    }

    /// Whether the first attempt of the layer outside was retried here after such an error.
    fn leaves_it(&self, facts: &Facts<'_>) -> bool {
        let first = Facts {
            nested: false,
            attempt: 1,
            ..*facts
        };
        facts.nested && matches!(decide(&first, &self.policy), Decision::AfterFault(_))
    }

    /// Retries after faults are bounded by a share of the partition's requests; waiting for a quota is not a fault.
    fn charge(&self, account: Account, decision: Decision, now: Instant) -> Decision {
        match decision {
            Decision::AfterFault(_) if !self.budget.withdraw(account, now) => {
                Decision::GiveUp(GiveUpReason::Budget)
            }
            other => other,
        }
    }

    fn again<RB, K>(
        &self,
        call: &mut Call,
        facts: &Facts<'_>,
        outcome: Result<Response<RB>, BoxError>,
        wait: Duration,
        kept: &mut Option<K>,
    ) -> Next<RB, K> {
        // Not decided without a copy.
        let Some(kept) = kept.take() else {
            return Next::Return(self.finish(call, outcome));
        };
        let attempt = call.attempt;
        let (status, error) = ended_with(&outcome);
        self.tell_each(call, |partition| RateLimitEvent::Retrying {
            partition,
            attempt,
            wait,
            status,
            error,
        });
        call.attempt = call.attempt.saturating_add(1);
        call.perhaps_processed |= facts.is_perhaps_processed();
        Next::Again(outcome.ok(), wait, kept)
    }

    fn finish<RB>(
        &self,
        call: &Call,
        mut outcome: Result<Response<RB>, BoxError>,
    ) -> Result<Response<RB>, BoxError> {
        if let Ok(response) = &mut outcome {
            Attempts::record(response, call.sends.into(), call.token_replaced);
        }
        outcome
    }
}

/// What an attempt ended with, for an event.
fn ended_with<RB>(
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

/// Ends the reading of the attempt before; the copy is gone if it cannot be sent in full any more.
fn supersede<K: Resend>(kept: &mut Option<K>) -> bool {
    *kept = kept.take().filter(Resend::supersede);
    kept.is_some()
}

/// Requests that were held together do not come back together.
const MOST_JITTER: Duration = Duration::from_millis(250);
/// So many attempts keep their place before those who came later.
const PATIENCE: u32 = 2;
