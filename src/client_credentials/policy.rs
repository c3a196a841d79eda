//! The token's part in the path of a request: token on, 401 out.

use std::{convert::Infallible, sync::Arc};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use tokio::time::Instant;

use super::{
    TokenError,
    authorize::Passage,
    cell::Refusal,
    exchange::{AuthCall, Exchange, Sent},
    local::LocalCache,
};
use crate::{
    Attempts, BoxError,
    call::{Begin, Next, Policy, Started, copy::Resend},
};

/// The tokens, and what a thread's requests use of them.
#[derive(Debug)]
pub(crate) struct AuthPolicy {
    pub(crate) auth: Arc<Exchange>,
    local: LocalCache,
}

impl AuthPolicy {
    pub(crate) fn new(auth: Arc<Exchange>) -> Self {
        let local = LocalCache::new(auth.authorizer.origins.len());
        Self { auth, local }
    }

    /// A call begins. `None` if the layer does not concern this request.
    ///
    /// # Errors
    ///
    /// The token must not go where the request goes, or the request has a credential already.
    #[inline]
    pub(crate) fn begin_call<B>(
        &self,
        request: &mut Request<B>,
    ) -> Result<Option<AuthCall>, BoxError> {
        let Passage::WithToken(origin) = self.auth.authorizer.inspect(request)? else {
            return Ok(None);
        };
        let may_replay = self.auth.may_replay(request);
        Ok(Some(AuthCall::new(origin, may_replay)))
    }

    /// The header with the usable token, if there is one, for an attempt now.
    #[inline]
    pub(crate) fn token(&self, now: Instant, origin: usize) -> Option<(HeaderValue, Sent)> {
        self.local.token(&self.auth.tokens, now, origin)
    }

    /// Waits until there is a usable token. Returns at once if there is.
    pub(crate) async fn obtain(&self, now: Instant) -> Result<(), TokenError> {
        if self.auth.tokens.warm(now).is_none() {
            self.auth.tokens.obtain().await?;
        }
        Ok(())
    }

    /// The same for an attempt on the slow path, which may be the only one of its thread.
    pub(crate) fn started(&self, now: Instant) -> Option<(HeaderValue, Sent)> {
        let (token, _) = self.auth.tokens.warm(now)?;
        Some((token.header.clone(), Sent::new(token.identity, now)))
    }

    /// Decides what follows a response that rejects the token.
    pub(crate) fn on_rejected<P, RB, C>(
        &self,
        call: &AuthCall,
        refusal: P::Rejection,
        response: Response<RB>,
        copy: Option<C>,
    ) -> Next<P, RB, C>
    where
        P: Policy<Rejection = Refusal>,
    {
        match copy {
            Some(copy) if call.may_replay && !call.is_replay => {
                return Next::Reauthenticate(response, refusal, copy);
            }
            _ if call.is_replay => self.auth.refused_again(&refusal),
            _ => self.auth.renew_beside(refusal),
        }
        Next::Return(Ok(response))
    }
}

impl Policy for AuthPolicy {
    type Call = AuthCall;
    type Pending = Infallible;
    type Permit = ();
    type Attempt = Sent;
    type Rejection = Refusal;

    #[inline]
    fn begin<B>(&self, request: &mut Request<B>) -> Result<Begin<Self>, BoxError> {
        let Some(call) = self.begin_call(request)? else {
            return Ok(Begin::Passthrough);
        };
        let now = self.auth.tokens.clock.now();
        Ok(match self.token(now, call.origin()) {
            Some(token) => Begin::Ready(call, started(token)),
            None => Begin::Wait(call, None),
        })
    }

    fn needs_copy(&self, call: &AuthCall) -> bool {
        call.may_replay && !call.is_replay
    }

    async fn admit(&self, _: &mut AuthCall, _: Option<Infallible>) -> Result<(), BoxError> {
        self.obtain(self.auth.tokens.clock.now()).await?;
        Ok(())
    }

    fn start(&self, _: &mut AuthCall, (): ()) -> Result<Option<Started<Self>>, BoxError> {
        // `None` if the wait for readiness has outlived the token.
        let token = self.started(self.auth.tokens.clock.now());
        Ok(token.map(started))
    }

    fn authorize(&self, headers: &mut HeaderMap, credential: HeaderValue) {
        self.auth.authorize(headers, credential);
    }

    #[inline]
    fn is_final<RB>(&self, call: &AuthCall, _: &Sent, response: &Response<RB>) -> bool {
        response.status() != StatusCode::UNAUTHORIZED && !call.is_replay
    }

    #[inline]
    fn on_final<RB>(&self, call: &AuthCall, sent: &Sent, response: &Response<RB>) {
        self.auth.on_final(response, *call, *sent);
    }

    fn on_response<RB: Body, C: Resend>(
        &self,
        call: &mut AuthCall,
        sent: Sent,
        outcome: Result<Response<RB>, BoxError>,
        copy: Option<C>,
    ) -> Next<Self, RB, C> {
        let mut response = match outcome {
            Ok(response) => response,
            error => return Next::Return(error),
        };
        if call.is_replay {
            Attempts::record(&mut response, 2, true);
        }
        match self.auth.refusal(&response, *call, sent) {
            Some(refusal) => self.on_rejected(call, refusal, response, copy),
            None => Next::Return(Ok(response)),
        }
    }

    async fn reauthenticate<RB: Body + Send>(
        &self,
        call: &mut AuthCall,
        refusal: Refusal,
        _: &mut Response<RB>,
    ) -> bool {
        call.is_replay = true;
        self.auth.replacement(refusal).await.is_some()
    }
}

fn started((header, attempt): (HeaderValue, Sent)) -> Started<AuthPolicy> {
    let credential = Some(header);
    Started {
        attempt,
        credential,
    }
}
