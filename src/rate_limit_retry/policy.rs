//! The rate-limit [`Policy`]: a permit before each attempt, and settlement after it.
//!
//! - `begin` derives the partition keys, and tries to obtain a permit without waiting.
//! - `admit` waits for a permit in the boxed future.
//! - `start` checks immediately before the send whether the permit is still valid.
//! - `finish` records a response that needs no further processing.
//! - `on_response` returns the permit with the outcome, and decides what follows.
//!
//! This policy never requests new credentials, so its `Rejection` is uninhabited.
//!
//! # Two paths
//!
//! | | fast | slow |
//! |---|---|---|
//! | condition | the partition has no known limit, or much of its announced quota remains, and no setting needs the gate | otherwise |
//! | permit | uncounted, or on credit | counted by the gate |
//! | success | counter of the shard | counter of the shard; the quota records it |
//!
//! A response with anything to record moves the request to the slow path afterwards:
//! [`Limiter::on_response`] counts it with [`Gate::enter_late`](super::gate::Gate::enter_late) or
//! [`Permit::count`].

use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use tokio::time::Instant;

use super::{
    fast_path::FastPath,
    gate::{Admission, Permit},
    limiter::{self, Call, Limiter, RequestHead, SharedLimiter},
};
use crate::{
    BoxError,
    call::{Begin, Next, Policy, Started, copy::Resend, drain::drain_limit},
};

/// The shared limiter, with the fast-path cache of one shard.
///
/// There is one value per shard, because a cache that all threads write would be as contended as the gate.
#[derive(Debug)]
pub(crate) struct LimitPolicy {
    /// The limiter, shared by all clones of the layer.
    pub(crate) limiter: SharedLimiter,
    /// The partitions that requests of this shard use.
    fast_path: FastPath,
}

/// Start of a call, as far as limits are concerned.
pub(crate) enum Begun {
    /// The call may be sent now.
    Ready(Call, Permit),
    /// The call has to wait. `None` if no admission was requested yet.
    Wait(Call, Option<Admission>),
}

impl LimitPolicy {
    /// Creates a policy with an empty fast-path cache.
    pub(crate) fn new(limiter: SharedLimiter) -> Self {
        Self {
            limiter,
            fast_path: FastPath::default(),
        }
    }

    /// Starts a call. With the name of a credential, the default partition is the origin together with that name.
    ///
    /// Tries the fast path first, then the gate. Does not wait.
    ///
    /// | condition | result |
    /// |---|---|
    /// | the partition is cached and open | ready, uncounted |
    /// | the partition is cached, and its credits allow it | ready, on credit |
    /// | the layer has a fleet quota | wait, nothing requested yet |
    /// | the gate admits the request | ready |
    /// | the gate queues or rejects it | wait, with the gate's result |
    ///
    /// A rejection by the gate is also passed on as a wait: the error is created on the slow path, so that this
    /// function, which is inlined into every call, stays small.
    ///
    /// `now` is called at most once, and on the fast path only if the layer has a deadline.
    #[inline]
    pub(crate) fn begin_call(
        &self,
        head: &RequestHead<'_>,
        credential: Option<&str>,
        now: impl FnOnce() -> Instant,
    ) -> Begun {
        let limiter = &self.limiter;
        // With a credential, the default keys differ: the cache must not mix the two.
        let named = credential.is_some();
        // The fast path does not touch the gate.
        // While a route is held, or sends slowly after a hold, each request needs its keys.
        let on_credit = limiter.routes.is_empty();
        if let Some((keys, account, permit)) = self.fast_path.admit(head.uri, named, on_credit) {
            return Begun::Ready(limiter.call(keys, account, head, now), permit);
        }
        let now = now();
        let mut call = limiter.begin(head, credential, now);
        // A fleet quota needs timers: the call continues in the boxed future.
        if limiter.has_fleet_quota() {
            return Begun::Wait(call, None);
        }
        match limiter.try_admit(&mut call, now) {
            Ok(mut permit) => {
                // Later requests may skip the gate.
                if limiter.has_fast_path() && (permit.is_uncounted() || permit.offers_credits()) {
                    self.fast_path
                        .cache(&limiter.gate, head.uri, named, &call, &mut permit);
                }
                Begun::Ready(call, permit)
            }
            Err(admission) => Begun::Wait(call, Some(admission)),
        }
    }
}

impl Policy for LimitPolicy {
    type Call = Call;
    type Pending = Admission;
    type Permit = Permit;
    type Proof = std::convert::Infallible;
    type Attempt = Permit;
    type Rejection = std::convert::Infallible;

    #[inline]
    fn begin<B>(&self, request: &mut Request<B>) -> Result<Begin<Self>, BoxError> {
        Ok(
            match self.begin_call(&(&*request).into(), None, || self.limiter.now()) {
                Begun::Ready(call, permit) => Begin::Ready(call, started(permit)),
                Begun::Wait(call, admission) => Begin::Wait(call, admission),
            },
        )
    }

    fn needs_copy(&self, _: &Call) -> bool {
        true
    }

    async fn admit(&self, call: &mut Call, pending: Option<Admission>) -> Result<Permit, BoxError> {
        self.limiter.admit(call, pending).await
    }

    fn start(
        &self,
        call: &mut Call,
        permit: Permit,
        _: Option<&Self::Proof>,
    ) -> Result<Option<Started<Self>>, BoxError> {
        let permit = self.limiter.start(call, permit)?;
        Ok(permit.map(started))
    }

    fn mark<B>(&self, call: &Call, request: &mut Request<B>) {
        call.mark(request);
    }

    #[inline]
    fn attach<B>(&self, permit: &Permit, request: &mut Request<B>) {
        permit.attach(&self.limiter, request);
    }

    #[inline]
    fn finish<RB>(&self, call: &Call, permit: &mut Permit, response: &Response<RB>) -> bool {
        self.limiter.finish(call, permit, response)
    }

    fn on_response<RB: Body, C: Resend>(
        &self,
        call: &mut Call,
        permit: Permit,
        outcome: Result<Response<RB>, BoxError>,
        mut copy: Option<C>,
    ) -> Next<Self, RB, C> {
        self.limiter
            .on_response(call, permit, outcome, &mut copy)
            .into()
    }

    async fn reauthenticate<RB: Body + Send>(
        &self,
        _: &mut Call,
        rejection: Self::Rejection,
        _: &mut Response<RB>,
    ) -> bool {
        match rejection {}
    }

    fn time_left(&self, call: &Call) -> Option<Duration> {
        self.limiter.time_left(call)
    }

    fn poll_deadline(&self, call: &mut Call, cx: &mut Context<'_>) -> Poll<()> {
        self.limiter.poll_deadline(call, cx)
    }

    fn deadline_exceeded(&self, call: &Call, in_flight: bool) -> BoxError {
        Limiter::deadline_exceeded(call, in_flight)
    }

    fn drain_limit(&self) -> Duration {
        drain_limit(self.limiter.deadline)
    }
}

impl<P: Policy, RB, C> From<limiter::Next<RB, C>> for Next<P, RB, C> {
    fn from(next: limiter::Next<RB, C>) -> Self {
        match next {
            limiter::Next::Return(outcome) => Self::Return(outcome),
            limiter::Next::Retry(response, wait, copy) => Self::Retry(response, wait, copy),
        }
    }
}

/// Wraps the permit of an attempt. This policy adds no credential to the request.
fn started(attempt: Permit) -> Started<LimitPolicy> {
    Started {
        attempt,
        credential: None,
    }
}
