//! The future of a response: polled by hand in the ordinary case, one linear `async fn` in the others.

use std::{
    fmt,
    future::{Future, ready},
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
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
    Attempts, BoxError,
    drain::drain,
    kept::{Resendable, Retained},
    replay::ReplayableBody,
    sharded::Shard,
    two_speeds::{Slow, TwoSpeeds, Watch},
};

pin_project! {
    /// The future of a [`ClientCredentials`](super::ClientCredentials) service's response.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends this request only: a fetch that it started, or waits for, goes on for the others.
    ///
    /// # Examples
    ///
    /// To be named by a service of yours that has this one as its inner service and returns its future.
    ///
    /// ```
    /// use std::task::{Context, Poll};
    ///
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use tower::Service;
    /// use tower_m2m::{
    ///     BoxError,
    ///     client_credentials::{ClientCredentials, ResponseFuture},
    /// };
    ///
    /// /// Adds a header.
    /// struct Versioned<S>(ClientCredentials<S>);
    ///
    /// impl<S, RB> Service<Request<Empty<&'static [u8]>>> for Versioned<S>
    /// where
    ///     S: Service<Request<Empty<&'static [u8]>>, Response = Response<RB>> + Clone + Send + 'static,
    ///     S::Future: Send,
    ///     S::Error: Into<BoxError>,
    ///     RB: http_body::Body + Send + 'static,
    /// {
    ///     type Response = Response<RB>;
    ///     type Error = BoxError;
    ///     type Future = ResponseFuture<S, Empty<&'static [u8]>>;
    ///
    ///     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
    ///         self.0.poll_ready(cx)
    ///     }
    ///
    ///     fn call(&mut self, mut request: Request<Empty<&'static [u8]>>) -> Self::Future {
    ///         request.headers_mut().insert("api-version", 3.into());
    ///         self.0.call(request)
    ///     }
    /// }
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        speeds: TwoSpeeds<S::Future, Option<UnderWay<S, B>>, S::Response>,
    }
}

/// What is kept of a request with our token while it is under way.
pub(super) struct UnderWay<S, B> {
    pub(super) near: Arc<Shard<Near>>,
    pub(super) sent: Sent,
    pub(super) retained: Option<Retained<S, B>>,
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    /// `None` without our token: then there is nothing to watch.
    pub(super) fn fast(future: S::Future, watched: Option<UnderWay<S, B>>) -> Self {
        let speeds = TwoSpeeds::fast(future, watched);
        Self { speeds }
    }

    pub(super) fn slow(
        future: impl Future<Output = Result<S::Response, BoxError>> + Send + 'static,
    ) -> Self {
        let speeds = TwoSpeeds::slow(future);
        Self { speeds }
    }

    /// Not sent.
    pub(super) fn refused(error: BoxError) -> Self
    where
        S::Response: Send + 'static,
    {
        Self::slow(ready(Err(error)))
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
        self.project().speeds.poll(cx)
    }
}

impl<S, B, RB> Watch<Response<RB>> for Option<UnderWay<S, B>>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send + 'static,
    RB: Body + Send + 'static,
{
    #[inline]
    fn is_over(&self, answer: &Response<RB>) -> bool {
        let watched = self.as_ref();
        watched.is_none_or(|watched| watched.near.exchange.is_over(answer, watched.sent))
    }

    fn conclude(
        &mut self,
        outcome: Result<Response<RB>, BoxError>,
    ) -> ControlFlow<Result<Response<RB>, BoxError>, Slow<Response<RB>>> {
        let (Ok(response), Some(watched)) = (&outcome, self) else {
            return ControlFlow::Break(outcome);
        };
        let exchange = &watched.near.exchange;
        let refusal = exchange.refusal(response, watched.sent);
        match (outcome, refusal, watched.retained.take()) {
            (Ok(response), Some(refusal), Some(retained)) => {
                let exchange = Arc::clone(exchange);
                ControlFlow::Continue(Box::pin(replay(exchange, response, refusal, retained)))
            }
            (outcome, refusal, _) => {
                if let Some(refusal) = refusal {
                    exchange.renew_beside(refusal);
                }
                ControlFlow::Break(outcome)
            }
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
    let may_replay = exchange.may_replay(&request);
    let retained = may_replay
        .then(|| Retained::of(&request, &service))
        .flatten();
    let header = token.header.clone();
    exchange.authorize(request.headers_mut(), header);
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
    // An upload that went on meanwhile may have passed the cap; from here on it does not.
    if exchange.replacement(refusal).await.is_none() || !retained.supersede() {
        return Ok(response);
    }
    let Some((mut service, kept)) = retained.into_kept() else {
        return Ok(response);
    };
    let mut request = kept.into_request();
    drain(response).await;
    let token = token_when_ready(&exchange, &mut service).await?;
    let header = token.header.clone();
    exchange.authorize(request.headers_mut(), header);
    let sent = Sent::new(token.identity, origin, exchange.tokens.clock.now());
    drop(token);
    let mut response = service.call(request).await.map_err(Into::into)?;
    Attempts::record(&mut response, 2, true);
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
