//! The protocol between a request and its limits, apart from any service, so that anything else can
//! drive it as the layer does.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http::{HeaderMap, Method, Response, Uri, request::Parts};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    DeadlineExceeded, GaveUp, GiveUpReason, HoldTooLong, PartitionKey, RateLimitEvent,
    budget::FaultBudget,
    decision::{Decision, Ended, Facts, MethodClass, Policy, decide},
    event::RateLimitEvents,
    gate::{Admission, Gate, Keys, Place, Ticket, Turn},
    headers::{Signals, may_speak},
    key::Partitioning,
    quota::Learnt,
    reader::Reader,
};
use crate::{
    Attempts, BoxError, ErrorClass, Origin,
    backoff::Backoff,
    clock::{SharedClock, after},
    error::Classifier,
    random::Random,
    sinks::Sinks,
};

/// One layer's gate and rules.
pub(crate) struct Limiter {
    pub(super) gate: Gate,
    pub(super) policy: Policy,
    pub(super) deadline: Option<Duration>,
    pub(super) fault_backoff: Backoff,
    pub(super) budget: FaultBudget,
    pub(super) partitioning: Partitioning,
    pub(super) keyed_origins: Vec<Origin>,
    pub(super) classifier: Classifier,
    pub(super) reader: Reader,
    pub(super) clock: SharedClock,
    pub(super) random: Random,
    pub(super) sinks: Sinks<RateLimitEvents>,
}

/// One call, over all its attempts.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) keys: Keys,
    method: MethodClass,
    deadline: Option<Instant>,
    arrival: Option<u64>,
    attempt: u32,
    sends: u32,
}

impl Call {
    /// Tells those below that this is not the first attempt.
    pub(crate) fn mark<B>(&self, request: &mut http::Request<B>) {
        Attempts::mark(request, self.attempt);
    }

    /// Ends `future` at the call's deadline. `under_way` tells whether the request may then have been processed.
    pub(crate) async fn in_time<F: Future>(
        &self,
        under_way: bool,
        future: F,
    ) -> Result<F::Output, BoxError> {
        match self.deadline {
            Some(at) => timeout_at(at, future).await.map_err(|_| {
                DeadlineExceeded {
                    possibly_processed: under_way,
                }
                .into()
            }),
            None => Ok(future.await),
        }
    }
}

/// What to do after an attempt.
#[derive(Debug)]
pub(crate) enum Next<RB> {
    Return(Result<Response<RB>, BoxError>),
    /// Send again after this wait; the response, if there is one, is drained first.
    Again(Option<Response<RB>>, Duration),
}

impl Limiter {
    /// A call that begins now. With a credential's name, the default partition is that credential's at the origin.
    pub(crate) fn begin(
        &self,
        parts: &RequestHead<'_>,
        credential: Option<&str>,
        now: Instant,
    ) -> Call {
        Call {
            deadline: self.deadline.map(|limit| after(now, limit)),
            ..self.call(self.keys(parts, credential), parts)
        }
    }

    pub(crate) fn keys(&self, parts: &RequestHead<'_>, credential: Option<&str>) -> Keys {
        match &self.partitioning {
            Partitioning::ByOrigin => [PartitionKey::of_origin(parts.uri, credential)].into(),
            Partitioning::By(keys) => keys(&parts.to_parts()).into(),
        }
    }

    /// A call without a deadline.
    pub(crate) fn call(&self, keys: Keys, parts: &RequestHead<'_>) -> Call {
        let keyed = self.keyed_origins.iter().any(|o| o.matches(parts.uri));
        Call {
            keys,
            method: MethodClass::of(parts.method, parts.headers, keyed),
            deadline: None,
            arrival: None,
            attempt: 1,
            sends: 0,
        }
    }

    /// Whether requests may go past the gate where nothing is known: with a deadline they must be watched, with a
    /// profile answers may speak in any way, and partitions of the user's own are told by more than the origin.
    pub(crate) fn has_passes(&self) -> bool {
        self.deadline.is_none()
            && matches!(self.partitioning, Partitioning::ByOrigin)
            && !self.reader.has_profile()
    }

    pub(crate) fn has_deadline(&self) -> bool {
        self.deadline.is_some()
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// A ticket, if the request may go at once.
    pub(crate) fn try_admit(&self, call: &mut Call, now: Instant) -> Result<Ticket, Admission> {
        let latest = self.latest(call, now);
        let passes = self.has_passes();
        let admission = self
            .gate
            .admit(&call.keys, call.arrival, Some(latest), passes, now);
        match admission {
            Admission::Go(ticket) => {
                call.arrival = ticket.arrival();
                Ok(ticket)
            }
            other => Err(other),
        }
    }

    /// Waits for a ticket.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place up.
    pub(crate) async fn admit(
        &self,
        call: &mut Call,
        first: Option<Admission>,
    ) -> Result<Ticket, BoxError> {
        let now = self.clock.now();
        let latest = self.latest(call, now);
        let admission = match first {
            Some(admission) => admission,
            None => match self.try_admit(call, now) {
                Ok(ticket) => return Ok(ticket),
                Err(admission) => admission,
            },
        };
        match admission {
            Admission::Go(ticket) => Ok(ticket),
            Admission::TooLate(until) => Err(self.too_long(call, until, now)),
            Admission::Wait(place) => {
                let ticket = self.turn(place, latest).await;
                let ticket = ticket.ok_or_else(|| self.too_long(call, latest, self.clock.now()))?;
                call.arrival = ticket.arrival();
                Ok(ticket)
            }
        }
    }

    /// Whether a partition has been held since the ticket was given.
    pub(crate) fn is_overtaken(&self, ticket: &Ticket) -> bool {
        ticket.is_overtaken(self.clock.now())
    }

    /// Learns from the end of an attempt, and decides what follows.
    pub(crate) fn conclude<RB>(
        &self,
        call: &mut Call,
        ticket: Ticket,
        outcome: Result<Response<RB>, BoxError>,
        replayable: bool,
    ) -> Next<RB> {
        if let Ok(response) = &outcome
            && ticket.is_free()
            && call.attempt == 1
            && is_unremarkable(response)
        {
            self.budget.deposit();
            return Next::Return(outcome);
        }
        let now = self.clock.now();
        let ticket = if ticket.is_free() {
            self.gate.adopt(&call.keys, now)
        } else {
            ticket
        };
        let mut signals = Signals::default();
        let (ended, held) = match &outcome {
            Ok(response) => {
                call.sends += Attempts::of(response);
                let status = response.status();
                let wall = self.clock.wall();
                signals = self
                    .reader
                    .read(&call.keys, status, response.headers(), wall);
                let throttled = signals.is_throttle(status);
                let learnt = Learnt::Answer {
                    throttled,
                    signals: &signals,
                };
                let held = ticket
                    .settle(learnt, now)
                    .map(|until| until.saturating_duration_since(now));
                if throttled {
                    // Where nobody knows until when, the next to look is somebody else, who has retries left.
                    if signals.retry_after.is_none() || call.attempt > PATIENCE {
                        call.arrival = None;
                    }
                    self.tell_each(call, |partition| RateLimitEvent::Throttled {
                        partition,
                        status: status.as_u16(),
                        held_for: held.unwrap_or_default(),
                    });
                } else if status.is_success() {
                    self.budget.deposit();
                }
                (Ended::Response(status, &signals), held)
            }
            Err(error) => {
                call.sends += 1;
                let class = self.classifier.classify(&**error);
                let learnt = match class {
                    ErrorClass::NotSent | ErrorClass::Final => Learnt::NotSent,
                    ErrorClass::MaybeProcessed => Learnt::Unknown,
                };
                ticket.settle(learnt, now);
                (Ended::Error(class), None)
            }
        };
        let facts = Facts {
            ended,
            attempt: call.attempt,
            method: call.method,
            replayable,
            held,
            backoff: self.fault_backoff.wait(call.attempt, self.random.unit()),
            left: call.deadline.map(|at| at.saturating_duration_since(now)),
        };
        match self.charge(decide(&facts, &self.policy), now) {
            Decision::Return => Next::Return(self.finish(call, outcome)),
            Decision::GiveUp(reason) => {
                let attempt = call.attempt;
                self.tell_each(call, |partition| RateLimitEvent::GaveUp {
                    partition,
                    attempt,
                    reason,
                });
                let mut outcome = outcome;
                if let Ok(response) = &mut outcome {
                    let retry_after = signals.retry_after.or(held);
                    response.extensions_mut().insert(GaveUp {
                        reason,
                        retry_after,
                    });
                }
                Next::Return(self.finish(call, outcome))
            }
            Decision::AfterHold => self.again(call, outcome, Duration::ZERO),
            Decision::AfterFault(wait) => self.again(call, outcome, wait),
        }
    }

    /// Retries after faults are bounded by a share of all requests; waiting for a quota is not a fault.
    fn charge(&self, decision: Decision, now: Instant) -> Decision {
        match decision {
            Decision::AfterFault(_) if !self.budget.withdraw(now) => {
                Decision::GiveUp(GiveUpReason::Budget)
            }
            other => other,
        }
    }

    fn again<RB>(
        &self,
        call: &mut Call,
        outcome: Result<Response<RB>, BoxError>,
        wait: Duration,
    ) -> Next<RB> {
        let attempt = call.attempt;
        self.tell_each(call, |partition| RateLimitEvent::Retrying {
            partition,
            attempt,
            wait,
        });
        call.attempt = call.attempt.saturating_add(1);
        Next::Again(outcome.ok(), wait)
    }

    fn finish<RB>(
        &self,
        call: &Call,
        mut outcome: Result<Response<RB>, BoxError>,
    ) -> Result<Response<RB>, BoxError> {
        if let Ok(response) = &mut outcome {
            Attempts::record(response, call.sends);
        }
        outcome
    }

    async fn turn(&self, mut place: Place, latest: Instant) -> Option<Ticket> {
        let mut expiry = pin!(sleep_until(latest));
        let mut timer = pin!(sleep_until(latest));
        poll_fn(|cx| {
            loop {
                let now = self.clock.now();
                match place.poll(cx, now) {
                    Turn::Ready(ticket) => return Poll::Ready(Some(ticket)),
                    Turn::Pending(None) => break,
                    Turn::Pending(Some(at)) => {
                        timer.as_mut().reset(at);
                        if timer.as_mut().poll(cx).is_pending() {
                            break;
                        }
                        // The timer's time has come, and by our clock it has not: look again with the next tick.
                        if self.clock.now() < at {
                            break;
                        }
                    }
                }
            }
            expiry.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    fn latest(&self, call: &Call, now: Instant) -> Instant {
        let patience = after(now, self.policy.max_wait);
        call.deadline.map_or(patience, |at| at.min(patience))
    }

    fn too_long(&self, call: &Call, until: Instant, now: Instant) -> BoxError {
        let partition = call.keys.first().cloned();
        let wait = until.saturating_duration_since(now);
        self.tell_each(call, |partition| RateLimitEvent::NotSent {
            partition,
            held_for: wait,
        });
        HoldTooLong {
            until,
            wait,
            partition: partition.unwrap_or_else(|| PartitionKey::new("")),
        }
        .into()
    }

    fn tell_each<'a>(
        &self,
        call: &'a Call,
        event: impl Fn(&'a PartitionKey) -> RateLimitEvent<'a>,
    ) {
        for key in call.keys.iter() {
            self.sinks.emit(&event(key));
        }
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Whether a response is a plain success, which says nothing about limits and has been sent once.
fn is_unremarkable<RB>(response: &Response<RB>) -> bool {
    response.status().is_success() && !may_speak(response.headers())
}

/// The head of a request, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) extensions: &'a http::Extensions,
}

impl<'a, B> From<&'a http::Request<B>> for RequestHead<'a> {
    fn from(request: &'a http::Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}

impl RequestHead<'_> {
    /// An owned copy, for the user's closure.
    pub(crate) fn to_parts(self) -> Parts {
        let mut request = http::Request::new(());
        request.method_mut().clone_from(self.method);
        request.uri_mut().clone_from(self.uri);
        request.headers_mut().clone_from(self.headers);
        request.extensions_mut().clone_from(self.extensions);
        request.into_parts().0
    }
}

/// Held by many, one for each layer value.
pub(crate) type SharedLimiter = Arc<Limiter>;

/// So many attempts keep their place before those who came later.
const PATIENCE: u32 = 2;
