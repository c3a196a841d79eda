//! Combined policy of a request: limits outside, credentials inside.
//!
//! An attempt passes these steps: the destination is checked, a token is obtained, a permit is obtained, the inner
//! service becomes ready, the request is sent. The token comes before the permit, because a permit that waits for a
//! token would block other requests. If the token expires while the call waits for its permit, the call starts again
//! with the token.
//!
//! The outcome passes the limiter first, which settles the permit and decides about retries. A 401 that it returns can
//! then be replayed with another token, once per call; the replay needs another permit.
//!
//! | outcome | limiter | token's policy | result |
//! |---|---|---|---|
//! | a final response, as nearly all are | records a success | records an accepted token | returned |
//! | 401 for this token, first of the call | charges the quota | another token | replayed with it, or returned |
//! | 401 after the replay | charges the quota | extends the cooldown of refreshes | returned |
//! | 429, 503 | holds, and decides on a retry | none | retried with the current token, or returned |
//! | error | releases the permit or counts the request | none | retried if its class and method allow it |

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body::Body;

use crate::{
    BoxError,
    boxed::BoxFuture,
    call::{Begin, Next, Policy, Started, copy::Resend, with_deadline},
    client_credentials::{Auth, AuthCall, AuthPolicy, Proof, Rejection, SentWith},
    rate_limit_retry::{Admission, Begun, Call, LimitPolicy, Limiter, Permit},
};

/// Policies of the two layers.
#[derive(Debug)]
pub(super) struct M2mPolicy {
    /// Policy of the limits.
    pub(super) limits: LimitPolicy,
    /// Policy of the token.
    pub(super) auth: AuthPolicy,
}

/// One call.
///
/// The two parts proceed together. `limits.token_replaced` records that the one replay of the call was used, and
/// `auth.is_replay` that the next attempt is that replay and not a retry.
pub(super) struct M2mCall {
    /// State of the call for the limits.
    limits: Call,
    /// State of the call for the token; `None` if the request is sent without the token.
    auth: Option<AuthCall>,
}

/// One attempt in flight.
///
/// Dropping it drops the permit, which then counts the request as sent with an unknown outcome.
pub(super) struct M2mAttempt {
    /// Permit of the limiter (`Permit`), which records the outcome.
    permit: Permit,
    /// The token that the attempt was sent with, if any.
    sent: Option<SentWith>,
}

impl M2mPolicy {
    /// Creates the policy of one thread.
    pub(super) fn new(limiter: Arc<Limiter>, auth: Arc<Auth>) -> Self {
        Self {
            limits: LimitPolicy::new(limiter),
            auth: AuthPolicy::new(auth),
        }
    }
}

impl Policy for M2mPolicy {
    type Call = M2mCall;
    type Pending = Admission;
    type Permit = Permit;
    type Proof = Proof;
    type Attempt = M2mAttempt;
    type Rejection = Rejection;

    #[inline]
    fn begin<B>(&self, request: &mut Request<B>) -> Result<Begin<Self>, BoxError> {
        let mut auth = self.auth.begin_call(request)?;
        let limiter = &self.limits.limiter;
        let now = limiter.now();
        let token = auth
            .as_mut()
            .and_then(|auth| self.auth.token(auth, limiter.to_tokio(now)));
        let head = (&*request).into();
        let settings = self.auth.auth.refresher.cache.settings();
        // A request without the token belongs to the partition of the origin, not to that of the credential.
        let credential = auth.as_ref().and(settings.credential.as_deref());
        if token.is_some() != auth.is_some() {
            // The token is awaited before the permit: a caller that waits for a token does not block others.
            let limits = limiter.begin(&head, credential, now);
            return Ok(Begin::Wait(M2mCall { limits, auth }, None));
        }
        Ok(match self.limits.begin_call(&head, credential, || now) {
            Begun::Ready(limits, permit) => {
                Begin::Ready(M2mCall { limits, auth }, started(permit, token))
            }
            Begun::Wait(limits, admission) => Begin::Wait(M2mCall { limits, auth }, admission),
        })
    }

    fn needs_copy(&self, _: &M2mCall) -> bool {
        true
    }

    async fn admit(
        &self,
        call: &mut M2mCall,
        mut pending: Option<Admission>,
    ) -> Result<Permit, BoxError> {
        let limiter = &self.limits.limiter;
        // A usable token is checked again after each wait.
        let now = limiter.to_tokio(limiter.now());
        if let Some(auth) = &mut call.auth {
            let tokens = auth.tokens(&self.auth.auth);
            let token = match tokens.get_cached(now) {
                Some((token, _)) => token,
                None => {
                    // A place in the queue must not be held while waiting for a token.
                    drop(pending.take());
                    let left = limiter.time_left(&call.limits);
                    let obtained = with_deadline(left, tokens.get()).await;
                    obtained.ok_or_else(|| Limiter::deadline_exceeded(&call.limits, false))??
                }
            };
            auth.is_bound = token.token.prover().is_some();
        }
        limiter.admit(&mut call.limits, pending).await
    }

    fn prove(
        &self,
        call: &mut M2mCall,
        method: &Method,
        uri: &Uri,
    ) -> Option<BoxFuture<'static, Result<Proof, BoxError>>> {
        self.auth.auth.prove(call.auth.as_mut()?, method, uri)
    }

    fn start(
        &self,
        call: &mut M2mCall,
        permit: Permit,
        proof: Option<&Proof>,
    ) -> Result<Option<Started<Self>>, BoxError> {
        let limiter = &self.limits.limiter;
        let now = limiter.now();
        let token = match &mut call.auth {
            Some(auth) => match self.auth.auth.started(auth, limiter.to_tokio(now), proof) {
                Some(token) => Some(token),
                None => {
                    // The token expired during the wait. The permit is returned, and the call waits again.
                    limiter.not_sent(permit);
                    return Ok(None);
                }
            },
            None => None,
        };
        let permit = limiter.start(&mut call.limits, permit)?;
        Ok(permit.map(|permit| started(permit, token)))
    }

    fn authorize(&self, headers: &mut HeaderMap, credential: HeaderValue) {
        self.auth.authorize(headers, credential);
    }

    fn add_proof(&self, headers: &mut HeaderMap, proof: Proof) {
        self.auth.add_proof(headers, proof);
    }

    fn mark<B>(&self, call: &M2mCall, request: &mut Request<B>) {
        call.limits.mark(request);
    }

    #[inline]
    fn attach<B>(&self, attempt: &M2mAttempt, request: &mut Request<B>) {
        attempt.permit.attach(&self.limits.limiter, request);
    }

    #[inline]
    fn finish<RB>(
        &self,
        call: &M2mCall,
        attempt: &mut M2mAttempt,
        response: &Response<RB>,
    ) -> bool {
        // A response that the limiter finishes is a success, which rejects no token.
        let limiter = &self.limits.limiter;
        let finished = limiter.finish(&call.limits, &mut attempt.permit, response);
        if finished && let Some((auth, sent)) = call.auth.as_ref().zip(attempt.sent) {
            self.auth.auth.on_final(response, auth, sent);
        }
        finished
    }

    fn on_response<RB: Body, C: Resend>(
        &self,
        call: &mut M2mCall,
        attempt: M2mAttempt,
        outcome: Result<Response<RB>, BoxError>,
        mut copy: Option<C>,
    ) -> Next<Self, RB, C> {
        let needs_proof = match (&outcome, call.auth.as_ref().zip(attempt.sent)) {
            (Ok(response), Some((auth, sent))) => {
                self.auth.auth.on_proof_response(response, auth, sent)
            }
            _ => false,
        };
        let rejected = match (&outcome, call.auth.as_ref().zip(attempt.sent)) {
            // The proof was rejected, not the token.
            _ if needs_proof => None,
            (Ok(response), Some((auth, sent))) => self
                .auth
                .auth
                .rejection(response, auth, sent)
                .map(|refusal| (auth.clone(), refusal)),
            _ => None,
        };
        if let Some(auth) = &mut call.auth {
            // The next attempt is a retry, unless it turns out to be a replay. With another proof, it remains what it
            // was.
            auth.is_replay &= needs_proof;
        }
        let limiter = &self.limits.limiter;
        // The limiter charges a 401 to the quota and never retries it. The token's policy decides about it.
        let next = limiter.on_response(&mut call.limits, attempt.permit, outcome, &mut copy);
        let next = next.into();
        if needs_proof {
            return self.prove_again(call, next, copy);
        }
        match (next, rejected) {
            (Next::Return(Ok(response)), Some((auth, refusal))) => {
                let may_replay = self.auth.auth.replay && !call.limits.token_replaced;
                let auth = auth.with_replay(may_replay);
                self.auth.on_rejected(&auth, refusal, response, copy)
            }
            (next, _) => next,
        }
    }

    async fn reauthenticate<RB: Body + Send>(
        &self,
        call: &mut M2mCall,
        refusal: Rejection,
        response: &mut Response<RB>,
    ) -> bool {
        // At most one replay per call.
        call.limits.token_replaced = true;
        let limiter = &self.limits.limiter;
        let Some(auth) = &call.auth else {
            return false;
        };
        let replacement = self.auth.auth.refresh_and_wait(auth, refusal);
        let token = with_deadline(limiter.time_left(&call.limits), replacement).await;
        if let Some(auth) = &mut call.auth {
            auth.is_replay = true;
        }
        // Without another token, or without time to use it, the server's 401 is returned.
        matches!(token, Some(Some(_))) && limiter.can_drain(&call.limits, response)
    }

    fn time_left(&self, call: &M2mCall) -> Option<Duration> {
        self.limits.time_left(&call.limits)
    }

    fn poll_deadline(&self, call: &mut M2mCall, cx: &mut Context<'_>) -> Poll<()> {
        self.limits.poll_deadline(&mut call.limits, cx)
    }

    fn deadline_exceeded(&self, call: &M2mCall, in_flight: bool) -> BoxError {
        Limiter::deadline_exceeded(&call.limits, in_flight)
    }

    fn drain_limit(&self) -> Duration {
        self.limits.drain_limit()
    }
}

impl M2mPolicy {
    /// Sends the request again with another proof, if it can be sent again and there is time.
    fn prove_again<RB: Body, C: Resend>(
        &self,
        call: &mut M2mCall,
        next: Next<Self, RB, C>,
        copy: Option<C>,
    ) -> Next<Self, RB, C> {
        let limiter = &self.limits.limiter;
        match (next, copy, &mut call.auth) {
            (Next::Return(Ok(response)), Some(copy), Some(auth))
                if limiter.can_drain(&call.limits, &response) && copy.supersede() =>
            {
                auth.proof_retries += 1;
                Next::Retry(Some(response), Duration::ZERO, copy)
            }
            (next, ..) => next,
        }
    }
}

/// Combines a permit, and a token if there is one, into an attempt.
fn started(permit: Permit, token: Option<(HeaderValue, SentWith)>) -> Started<M2mPolicy> {
    let (credential, sent) = token.unzip();
    Started {
        attempt: M2mAttempt { permit, sent },
        credential,
    }
}
