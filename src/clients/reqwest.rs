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
/// It takes requests with any body and answers with a [`reqwest::Body`](Body). It follows no redirects: the client would
/// carry the token where no layer sees it. Clones share their connections.
///
/// # Errors
///
/// Those of reqwest. A URI that reqwest takes for no URL, one without a host above all, is one of them.
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
    /// Builds a client with the settings given, other than its redirect policy: that is
    /// [`none`](::reqwest::redirect::Policy::none).
    ///
    /// # Errors
    ///
    /// If the client cannot be built: reqwest's [`ClientBuilder::build`].
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
            Err(error) => State::Refused { error: Some(error) },
        };
        ReqwestFuture { state }
    }
}

impl fmt::Debug for ReqwestService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client would print its default headers.
        f.debug_struct("ReqwestService").finish_non_exhaustive()
    }
}

type Pending = <Client as Service<::reqwest::Request>>::Future;

pin_project! {
    /// The future of a response. Made by a [`ReqwestService`].
    ///
    /// # Examples
    ///
    /// To be named by a service of yours that returns it.
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
    #[project = StateProjection]
    enum State {
        Sent { #[pin] response: Pending },
        Refused { error: Option<Error> },
    }
}

impl Future for ReqwestFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Sent { response } => {
                response.poll(cx).map(|sent| sent.map(Response::from))
            }
            StateProjection::Refused { error } => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
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

/// Bytes are copied, because reqwest lends them only; a stream is sent once.
impl ReplayableBody for Body {
    fn try_clone(&self) -> Option<Self> {
        self.as_bytes()
            .map(|data| Self::from(Bytes::copy_from_slice(data)))
    }
}
