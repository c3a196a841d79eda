//! Policy of a request with a token: adds the token, and handles a 401.
//!
//! | response | call | action |
//! |---|---|---|
//! | not a 401 about the token | any | returned |
//! | 401 about the proof, with a new nonce or another time | has a copy | the copy is sent with another proof |
//! | 403 or 401 about a scope, with step-up | may be replayed, with a copy | a token with that scope, then the copy is sent once |
//! | 401 about the token | may be replayed, with a copy | another token, then the copy is sent once |
//! | 401 about the token | is a replay | returned; recorded in the cooldown of the origin |
//! | 401 about the token | cannot be replayed | returned; the token is refreshed for later requests |
//!
//! The loop that drives a call (`call::future`) calls the functions of the [`Policy`] in this order:
//!
//! 1. `begin` checks the destination. On the fast path it also returns the token, and the request is sent in the same
//!    poll.
//! 2. `admit` and `start`, if there is no usable token, or if it needs a proof: wait for the one fetch, then take the
//!    token. `prove` signs the proof in between.
//! 3. `authorize` and `add_proof` add the headers to each attempt.
//! 4. `finish` for a response that needs no decision, otherwise `on_response`.
//! 5. `reauthenticate` before a replay, while the inner service is not held ready.
//!
//! Between 2 and 3 the inner service is polled ready again. The token may expire meanwhile, so that `start` may send
//! the call back to `admit`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use tokio::time::Instant;

use super::{
    TokenError, TokenScope,
    auth::{Auth, AuthCall, SentWith},
    authorize::Destination,
    cache::Rejection,
    local::LocalCache,
    proof::Proof,
    prover::DPOP,
};
use crate::{
    Attempts, BoxError,
    attempts::Flags,
    boxed::BoxFuture,
    call::{Begin, Next, Policy, Started, copy::Resend},
};

/// The layer's tokens, and the local cache of one thread.
///
/// One for each shard. All of them share the [`Auth`] of the layer.
#[derive(Debug)]
pub(crate) struct AuthPolicy {
    /// Tokens and rules, shared by all threads.
    pub(crate) auth: Arc<Auth>,
    /// Local cache of this thread.
    local: LocalCache,
}

impl AuthPolicy {
    /// Creates the policy of one thread.
    pub(crate) fn new(auth: Arc<Auth>) -> Self {
        let local = LocalCache::new(auth.authorizer.origins.len());
        Self { auth, local }
    }

    /// Starts a call. `None` if the request is sent without the token.
    ///
    /// Runs before a token is requested and before anything is sent, so that a request to a foreign origin causes no
    /// token request.
    ///
    /// # Errors
    ///
    /// The token may not go to the destination, or the request already carries a credential.
    #[inline]
    pub(crate) fn begin_call<B>(
        &self,
        request: &mut Request<B>,
    ) -> Result<Option<AuthCall>, BoxError> {
        let Destination::Allowed(origin) = self.auth.authorizer.check(request)? else {
            return Ok(None);
        };
        let may_replay = self.auth.may_replay(request);
        let mut call = AuthCall::new(origin, may_replay);
        // Most requests have no extensions: then nothing is looked up.
        if !request.extensions().is_empty() {
            self.choose_tokens(&mut call, request.extensions());
        }
        Ok(Some(call))
    }

    /// Returns the header with the usable token, if there is one, for an attempt on the fast path.
    #[inline]
    pub(crate) fn token(
        &self,
        call: &mut AuthCall,
        now: Instant,
    ) -> Option<(HeaderValue, SentWith)> {
        // The local cache has the tokens of the layer only.
        if call.is_scoped() {
            return self.scoped_token(call, now);
        }
        self.local.token(&self.auth.refresher, now, call.origin())
    }

    /// Chooses the tokens for the scope of the request, if it has one.
    ///
    /// Not inlined, like the next function, so that requests without a scope execute neither.
    #[inline(never)]
    fn choose_tokens(&self, call: &mut AuthCall, extensions: &Extensions) {
        if let Some(scope) = extensions.get::<TokenScope>() {
            call.set_tokens(self.auth.refresher.for_scope(scope));
        }
    }

    /// Returns the header with the usable token for the scope of the request.
    #[cold]
    fn scoped_token(&self, call: &mut AuthCall, now: Instant) -> Option<(HeaderValue, SentWith)> {
        self.auth.started(call, now, None)
    }

    /// Waits for a usable token. Returns at once if there is one.
    ///
    /// Does not return the token: it is taken again when the inner service is ready, and may be another one by then.
    ///
    /// # Errors
    ///
    /// The fetch has failed, its back-off is active, or no fetch can start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not affect other callers. The fetch continues.
    pub(crate) async fn obtain(&self, call: &mut AuthCall, now: Instant) -> Result<(), TokenError> {
        let tokens = call.tokens(&self.auth);
        let token = match tokens.get_cached(now) {
            Some((token, _)) => token,
            None => tokens.get().await?,
        };
        call.is_bound = token.token.prover().is_some();
        Ok(())
    }

    /// Decides what follows a response that rejects the token.
    ///
    /// Generic over the policy, because combined layers use it within their own policy. Consumes the rejection exactly
    /// once, so that each 401 is recorded once.
    pub(crate) fn on_rejected<P, RB, C>(
        &self,
        call: &AuthCall,
        rejection: P::Rejection,
        response: Response<RB>,
        copy: Option<C>,
    ) -> Next<P, RB, C>
    where
        P: Policy<Rejection = Rejection>,
    {
        match copy {
            Some(copy) if call.may_replay && !call.is_replay => {
                return Next::Reauthenticate(response, rejection, copy);
            }
            // The replacement was rejected too.
            _ if call.is_replay => self.auth.on_replay_rejected(call, &rejection),
            // For the requests after this one.
            _ => self.auth.refresh_in_background(call, rejection),
        }
        Next::Return(Ok(response))
    }
}

impl Policy for AuthPolicy {
    type Call = AuthCall;
    type Pending = Infallible;
    type Permit = ();
    type Proof = Proof;
    type Attempt = SentWith;
    type Rejection = Rejection;

    // Called once per request, from one place. A call of its own, which moves the result, costs 4 % of the path.
    #[inline(always)]
    fn begin<B>(&self, request: &mut Request<B>) -> Result<Begin<Self>, BoxError> {
        let Some(mut call) = self.begin_call(request)? else {
            return Ok(Begin::Passthrough);
        };
        // The destination is checked by now: a refused request causes no token request.
        let now = self.auth.refresher.clock.now();
        Ok(match self.token(&mut call, now) {
            Some(token) => Begin::Ready(call, started(token)),
            None => Begin::Wait(call, None),
        })
    }

    fn needs_copy(&self, call: &AuthCall) -> bool {
        // A replay is not replayed again.
        (call.may_replay && !call.is_replay) || call.may_prove_again()
    }

    async fn admit(&self, call: &mut AuthCall, _: Option<Infallible>) -> Result<(), BoxError> {
        self.obtain(call, self.auth.refresher.clock.now()).await?;
        Ok(())
    }

    fn prove(
        &self,
        call: &mut AuthCall,
        method: &Method,
        uri: &Uri,
    ) -> Option<BoxFuture<'static, Result<Proof, BoxError>>> {
        self.auth.prove(call, method, uri)
    }

    fn start(
        &self,
        call: &mut AuthCall,
        (): (),
        proof: Option<&Proof>,
    ) -> Result<Option<Started<Self>>, BoxError> {
        // `None` if the token expired while the call waited for readiness: it waits for another token then.
        let token = self
            .auth
            .started(call, self.auth.refresher.clock.now(), proof);
        Ok(token.map(started))
    }

    fn mark<B>(&self, call: &AuthCall, request: &mut Request<B>) {
        // Without a flag: a replay is no retry to an inner layer with limits.
        Attempts::mark(request, call.sends.into(), Flags::default());
    }

    fn add_proof(&self, headers: &mut HeaderMap, proof: Proof) {
        headers.insert(DPOP, proof.header);
    }

    fn authorize(&self, headers: &mut HeaderMap, credential: HeaderValue) {
        self.auth.authorize(headers, credential);
    }

    #[inline]
    fn finish<RB>(&self, call: &AuthCall, sent: &mut SentWith, response: &Response<RB>) -> bool {
        // The response to a replay is not final: `on_response` records the attempts in its extensions.
        let status = response.status();
        let is_final = status != StatusCode::UNAUTHORIZED
            && !call.is_replay
            && (status != StatusCode::FORBIDDEN || !self.auth.step_up);
        if is_final {
            self.auth.on_final(response, call, *sent);
        }
        is_final
    }

    fn on_response<RB: Body, C: Resend>(
        &self,
        call: &mut AuthCall,
        sent: SentWith,
        outcome: Result<Response<RB>, BoxError>,
        copy: Option<C>,
    ) -> Next<Self, RB, C> {
        let mut response = match outcome {
            Ok(response) => response,
            error => return Next::Return(error),
        };
        let sends = u8::try_from(Attempts::of(&response)).unwrap_or(u8::MAX);
        call.sends = call.sends.saturating_add(sends);
        let needs_proof = self.auth.on_proof_response(&response, call, sent);
        // The proof was rejected, not the token.
        let rejection = match needs_proof {
            true => None,
            false => self.auth.rejection(&response, call, sent),
        };
        if call.is_replay || call.proof_retries > 0 {
            // For outer layers: how many attempts, and whether the last one had another token. After `rejection`, which
            // reads what inner layers have recorded.
            Attempts::record(&mut response, call.sends.into(), call.is_replay);
        }
        if needs_proof {
            return match copy {
                Some(copy) if copy.supersede() => {
                    call.proof_retries += 1;
                    Next::Retry(Some(response), Duration::ZERO, copy)
                }
                // The request cannot be sent again. Another token would not help.
                _ => Next::Return(Ok(response)),
            };
        }
        match rejection {
            Some(rejection) => self.on_rejected(call, rejection, response, copy),
            None => Next::Return(Ok(response)),
        }
    }

    async fn reauthenticate<RB: Body + Send>(
        &self,
        call: &mut AuthCall,
        rejection: Rejection,
        _: &mut Response<RB>,
    ) -> bool {
        // Set before the wait: whatever follows, the request is not replayed a second time.
        call.is_replay = true;
        self.auth.refresh_and_wait(call, rejection).await.is_some()
    }
}

/// Pairs an attempt with its credential.
fn started((header, attempt): (HeaderValue, SentWith)) -> Started<AuthPolicy> {
    let credential = Some(header);
    Started {
        attempt,
        credential,
    }
}
