//! reqwest's client as a service of HTTP requests.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use ::reqwest::{Body, Client, ClientBuilder, Error, redirect::Policy};
use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{BoxError, replay::ReplayableBody};

/// A [`reqwest::Client`](Client) as the service below the layers of this crate.
///
/// Accepts requests with any body, and returns responses with a [`reqwest::Body`](Body). Does not follow redirects: the
/// client would carry the token to a place that no layer checks. Clones share their connections.
///
/// Set time limits on the builder, or with a layer outside; the client has none of its own by default. Proxies and TLS
/// settings of the builder apply.
///
/// # Errors
///
/// Returns reqwest's errors. One of them is a URI that is not a URL, for example one without a host.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::Full;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_m2m::{BoxError, RateLimitRetryLayer, clients::ReqwestService};
///
/// # async fn example() -> Result<(), BoxError> {
/// let http = ReqwestService::new(reqwest::Client::builder())?;
/// let client = ServiceBuilder::new().layer(RateLimitRetryLayer::new()).service(http);
/// let request = Request::get("http://127.0.0.1:8080/orders").body(Full::<Bytes>::default())?;
/// let response = reqwest::Response::from(client.oneshot(request).await?);
/// println!("{}", response.text().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ReqwestService {
    client: Client,
}

impl ReqwestService {
    /// Builds a client with these settings, except for the redirect policy, which is set to
    /// [`none`](::reqwest::redirect::Policy::none).
    ///
    /// # Errors
    ///
    /// Returns an error if the client cannot be built: reqwest's [`ClientBuilder::build`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use tower_m2m::clients::ReqwestService;
    ///
    /// let builder = reqwest::Client::builder()
    ///     .connect_timeout(Duration::from_secs(2))
    ///     .pool_idle_timeout(Duration::from_secs(30));
    /// let http = ReqwestService::new(builder)?;
    /// # drop(http);
    /// # Ok::<(), reqwest::Error>(())
    /// ```
    pub fn new(builder: ClientBuilder) -> Result<Self, Error> {
        let client = builder.redirect(Policy::none()).build()?;
        Ok(Self { client })
    }
}

impl<B> Service<Request<B>> for ReqwestService
where
    B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ReqwestFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ReqwestFuture {
        let state = match request.map(Body::wrap).try_into() {
            Ok(request) => State::Sent {
                response: self.client.call(request),
            },
            Err(error) => State::Failed { error: Some(error) },
        };
        ReqwestFuture { state }
    }
}

impl fmt::Debug for ReqwestService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client would print its default headers, which may be secret.
        f.debug_struct("ReqwestService").finish_non_exhaustive()
    }
}

/// The future of reqwest's own service.
type Pending = <Client as Service<::reqwest::Request>>::Future;

pin_project! {
    /// The response future of a [`ReqwestService`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels the request, as dropping reqwest's future does.
    ///
    /// # Examples
    ///
    /// As the future of a service that wraps it:
    ///
    /// ```
    /// use std::task::{Context, Poll};
    ///
    /// use http::{Request, Response};
    /// use tower::Service;
    /// use tower_m2m::clients::{ReqwestFuture, ReqwestService};
    ///
    /// /// Counts what it sends.
    /// #[derive(Clone)]
    /// struct Counted(ReqwestService, metrics::Counter);
    ///
    /// impl Service<Request<String>> for Counted {
    ///     type Response = Response<reqwest::Body>;
    ///     type Error = reqwest::Error;
    ///     type Future = ReqwestFuture;
    ///
    ///     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), reqwest::Error>> {
    ///         Service::<Request<String>>::poll_ready(&mut self.0, cx)
    ///     }
    ///
    ///     fn call(&mut self, request: Request<String>) -> ReqwestFuture {
    ///         self.1.increment(1);
    ///         self.0.call(request)
    ///     }
    /// }
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct ReqwestFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    // The states of a response future.
    #[project = StateProjection]
    enum State {
        // The request was passed to the client.
        Sent { #[pin] response: Pending },
        // The request could not be converted. Empty once the error has been returned.
        Failed { error: Option<Error> },
    }
}

impl Future for ReqwestFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Sent { response } => {
                response.poll(cx).map(|sent| sent.map(Response::from))
            }
            StateProjection::Failed { error } => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
                // Polled after completion, which the contract of `Future` forbids.
                None => Poll::Pending,
            },
        }
    }
}

impl fmt::Debug for ReqwestFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestFuture").finish_non_exhaustive()
    }
}

/// Bytes are copied, because reqwest only lends them. A stream cannot be cloned and is sent once.
///
/// Copying is bounded by the limits for replays, as for every other body.
impl ReplayableBody for Body {
    fn try_clone(&self) -> Option<Self> {
        self.as_bytes()
            .map(|data| Self::from(Bytes::copy_from_slice(data)))
    }
}
