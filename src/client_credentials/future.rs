//! The future of a response: polled by hand in the ordinary case, one linear `async fn` in the others.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::ServiceExt;
use tower_service::Service;

use super::{
    cell::{Published, Refusal},
    exchange::{Exchange, Sent},
    near::Near,
};
use crate::{
    Attempts, BoxError, drain::drain, kept::Retained, replay::ReplayableBody, sharded::Place,
};

pin_project! {
    /// The future of a [`ClientCredentials`](super::ClientCredentials) service's response.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends this request only: a fetch that it started, or waits for, goes on for the others.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B, S::Future, S::Response>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B, F, R> {
        /// Sent without our token: nothing to watch.
        AsItIs { #[pin] future: F },
        /// Sent with our token. The ordinary case.
        Sent {
            #[pin] future: F,
            near: Arc<Place<Near>>,
            sent: Sent,
            retained: Option<Retained<S, B>>,
        },
        /// Waiting for a token, or replaying.
        Slow { future: Slow<R> },
        /// Not sent.
        Refused { error: Option<BoxError> },
    }
}

type Slow<R> = Pin<Box<dyn Future<Output = Result<R, BoxError>> + Send>>;

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) fn as_it_is(future: S::Future) -> Self {
        let state = State::AsItIs { future };
        Self { state }
    }

    pub(super) fn sent(
        future: S::Future,
        near: Arc<Place<Near>>,
        sent: Sent,
        retained: Option<Retained<S, B>>,
    ) -> Self {
        let state = State::Sent {
            future,
            near,
            sent,
            retained,
        };
        Self { state }
    }

    pub(super) fn slow(
        future: impl Future<Output = Result<S::Response, BoxError>> + Send + 'static,
    ) -> Self {
        let future: Slow<S::Response> = Box::pin(future);
        let state = State::Slow { future };
        Self { state }
    }

    pub(super) fn refused(error: BoxError) -> Self {
        let state = State::Refused { error: Some(error) };
        Self { state }
    }
}

impl<S, B, RB> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send + 'static,
    RB: Body + Send + 'static,
{
    type Output = Result<Response<RB>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let slow: Slow<Response<RB>> = match state.as_mut().project() {
                StateProj::AsItIs { future } => return future.poll(cx).map_err(Into::into),
                StateProj::Slow { future } => return future.as_mut().poll(cx),
                StateProj::Refused { error } => {
                    let error = error.take();
                    return Poll::Ready(Err(error.unwrap_or_else(|| POLLED_AGAIN.into())));
                }
                StateProj::Sent {
                    future,
                    near,
                    sent,
                    retained,
                } => {
                    let exchange = &near.exchange;
                    let outcome = ready!(future.poll(cx));
                    // Looked at where it is: every response is moved once less.
                    if let Ok(response) = &outcome
                        && exchange.is_over(response, *sent)
                    {
                        return Poll::Ready(outcome.map_err(Into::into));
                    }
                    let response = outcome.map_err(Into::into)?;
                    let Some(refusal) = exchange.refusal(&response, *sent) else {
                        return Poll::Ready(Ok(response));
                    };
                    let Some(retained) = retained.take() else {
                        exchange.renew_beside(refusal);
                        return Poll::Ready(Ok(response));
                    };
                    Box::pin(replay(Arc::clone(exchange), response, refusal, retained))
                }
            };
            state.set(State::Slow { future: slow });
        }
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// There is no usable token: wait for the one fetch, become ready, send, and look at the answer.
pub(super) async fn obtain_and_send<S, B, RB>(
    exchange: Arc<Exchange>,
    mut service: S,
    mut request: Request<B>,
    origin: usize,
) -> Result<Response<RB>, BoxError>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send,
    RB: Body + Send,
{
    let token = token_when_ready(&exchange, &mut service).await?;
    let retained = exchange
        .replay
        .then(|| Retained::of(&request, &service))
        .flatten();
    let header = token.header.clone();
    exchange.authorizer.authorize(request.headers_mut(), header);
    let sent = Sent::new(token.identity, origin, exchange.tokens.clock.now());
    drop(token);
    let response = service.call(request).await.map_err(Into::into)?;
    let Some(refusal) = exchange.refusal(&response, sent) else {
        return Ok(response);
    };
    let Some(retained) = retained else {
        exchange.renew_beside(refusal);
        return Ok(response);
    };
    drop(service);
    // Boxed, so that those who wait for a token do not keep room for it.
    Box::pin(replay(exchange, response, refusal, retained)).await
}

/// The token was refused: get another one and send the copy, once. If that is not to be had, the 401 is the answer.
async fn replay<S, B, RB>(
    exchange: Arc<Exchange>,
    response: Response<RB>,
    refusal: Refusal,
    retained: Retained<S, B>,
) -> Result<Response<RB>, BoxError>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send,
    RB: Body + Send,
{
    let origin = refusal.origin;
    if !retained.is_intact() {
        exchange.renew_beside(refusal);
        return Ok(response);
    }
    // An upload that went on meanwhile may have passed the cap.
    if exchange.replacement(refusal).await.is_none() || !retained.is_intact() {
        return Ok(response);
    }
    let Some((mut service, kept)) = retained.into_kept() else {
        return Ok(response);
    };
    let mut request = kept.into_request();
    drain(response).await;
    let token = token_when_ready(&exchange, &mut service).await?;
    let header = token.header.clone();
    exchange.authorizer.authorize(request.headers_mut(), header);
    let sent = Sent::new(token.identity, origin, exchange.tokens.clock.now());
    drop(token);
    let mut response = service.call(request).await.map_err(Into::into)?;
    Attempts::record(&mut response, 2);
    if let Some(refusal) = exchange.refusal(&response, sent) {
        exchange.refused_again(&refusal);
    }
    Ok(response)
}

/// Makes `service` ready, and returns a token that is alive then.
async fn token_when_ready<S, B>(
    exchange: &Exchange,
    service: &mut S,
) -> Result<Arc<Published>, BoxError>
where
    S: Service<Request<B>> + Clone,
    S::Error: Into<BoxError>,
{
    let tokens = &exchange.tokens;
    loop {
        tokens.obtain().await?;
        service.ready().await.map_err(Into::into)?;
        if let Some((token, _)) = tokens.warm(tokens.clock.now()) {
            return Ok(token);
        }
        // The wait has outlived the token. Readiness is not kept over the wait that follows.
        *service = service.clone();
    }
}

const POLLED_AGAIN: &str = "response future polled after it was ready";
