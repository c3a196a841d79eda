//! The service: the ordinary path of a request, which neither waits nor boxes.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    future::{ResponseFuture, UnderWay, Unsent, drive},
    protocol::{Attempt, Protocol, Spot},
};
use crate::{
    BoxError,
    client_credentials::Passage,
    kept::{Outgoing, Retained},
    rate_limit_retry::Ticket,
    readiness::give_back,
    replay::ReplayableBody,
    sharded::Sharded,
};

/// Sends requests with an access token, as their quotas allow. Made by an [`M2mLayer`](super::M2mLayer).
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use hyper_util::client::legacy::{Client, connect::HttpConnector};
/// use tower_m2m::stack::M2m;
///
/// /// What the rest of the program uses. Cheap to clone.
/// #[derive(Clone)]
/// struct Orders {
///     http: M2m<Client<HttpConnector, Full<Bytes>>>,
/// }
/// ```
#[derive(Clone)]
pub struct M2m<S> {
    inner: S,
    spots: Sharded<Spot>,
}

impl<S> M2m<S> {
    pub(super) fn new(inner: S, spots: Sharded<Spot>) -> Self {
        Self { inner, spots }
    }

    /// The service underneath.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service underneath.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service underneath.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, RB> Service<Request<B>> for M2m<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send + 'static,
    RB: Body + Send + 'static,
{
    type Response = Response<RB>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> ResponseFuture<S, B> {
        let spot = self.spots.here();
        let Protocol { limiter, exchange } = &*spot.protocol;
        let origin = match exchange.authorizer.inspect(&mut request) {
            Ok(Passage::WithToken(origin)) => Some(origin),
            Ok(Passage::AsItIs) => None,
            Err(error) => return ResponseFuture::refused(error),
        };
        let now = limiter.now();
        let token = origin.and_then(|origin| spot.near.token(limiter.by_tokio(now), origin));
        let head = (&request).into();
        let credential = || {
            let credential = exchange.tokens.cell.settings().credential.as_deref();
            origin.and(credential)
        };
        let has_token = token.is_some() == origin.is_some();
        let pass = || spot.passes.pass(&head, credential().is_some());
        let (call, ticket) = match has_token.then(pass).flatten() {
            Some(call) => (call, Ticket::free()),
            None => {
                let (call, admission) = if has_token {
                    spot.passes.admit(&head, credential())
                } else {
                    (limiter.begin(&head, credential(), now), None)
                };
                match admission {
                    Some(Ok(ticket)) => (call, ticket),
                    admission => {
                        let protocol = Arc::clone(&spot.protocol);
                        let admission = admission.and_then(Result::err);
                        let service = give_back(&mut self.inner);
                        let unsent = Unsent {
                            outgoing: Outgoing::First(request),
                            origin,
                            replay: false,
                        };
                        return ResponseFuture::slow(drive(
                            protocol, call, admission, service, unsent,
                        ));
                    }
                }
            }
        };
        let retained = Retained::of(&request, &self.inner);
        let sent = token.map(|(header, sent)| {
            exchange.authorize(request.headers_mut(), header);
            sent
        });
        let spot = Arc::clone(spot);
        // The instance that was polled ready is the one that is called.
        let future = self.inner.call(request);
        let watched = UnderWay {
            spot,
            attempt: Some((call, Attempt { ticket, sent })),
            retained,
        };
        ResponseFuture::fast(future, watched)
    }
}

impl<S: fmt::Debug> fmt::Debug for M2m<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("M2m")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
