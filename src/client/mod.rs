//! An HTTP client for programs that do not use tower (feature `client`).
//!
//! [`Client`] is both layers over this crate's own connections, with the methods that one expects of a client. It adds
//! nothing that the layers do not have: [`Client::into_service`] leads back to tower.
//!
//! | question | answer |
//! |---|---|
//! | in which order are the layers | limits outside credentials, as in [`M2mLayer`] |
//! | redirects | never followed: a 3xx is returned, and no token goes to a place that nobody has checked |
//! | compression | none is asked for, so a response is as long as its body |
//! | TLS | the crypto provider of the program, the platform's root certificates |
//! | proxies | those of the environment, see [`Proxy`](crate::client_credentials::Proxy) |
//! | `User-Agent` | `tower-m2m/` and the version, unless the request sets another |
//! | time limits | `max_wait` of the limits for each wait. For the whole request, use `tokio::time::timeout` or a deadline of the limits |
//!
//! | file | contents |
//! |---|---|
//! | `mod` | the client |
//! | `request`, `response` | one request, and its response |
//! | `body` | the bodies of both |
//! | `error` | the error of all steps |

mod body;
mod error;
mod request;
mod response;

use std::{
    fmt,
    task::{Context, Poll},
};

use http::Method;
use hyper_util::{client::legacy, rt::TokioExecutor};
use tower_layer::Layer;
use tower_service::Service;

pub use self::{
    body::{RequestBody, ResponseBody},
    error::{ClientError, ClientErrorKind},
    request::RequestBuilder,
    response::Response,
};
use crate::{
    BoxError, M2mLayer, RateLimitRetryLayer,
    client_credentials::{Config, ConfigError, Connector},
    stack::{M2m, M2mHandle},
};

/// An HTTP client that sends requests with an access token, as their quotas allow.
///
/// Cheap to clone; clones share connections, token and quotas. Keep one.
///
/// # Examples
///
/// ```no_run
/// use tower_m2m::{BoxError, client_credentials::Config};
///
/// # async fn example() -> Result<(), BoxError> {
/// let client = Config::from_env()?.client()?;
///
/// let orders: Vec<String> = client
///     .get("https://api.example.com/orders")
///     .query([("state", "open")])
///     .send()
///     .await?
///     .error_for_status()?
///     .json()
///     .await?;
/// # drop(orders);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    /// Both layers over the connections.
    service: M2m<Connections>,
    /// Handle to the tokens and quotas.
    handle: M2mHandle,
}

/// The connections of a client, with its bodies.
#[derive(Clone)]
struct Connections(legacy::Client<Connector, RequestBody>);

impl Client {
    /// Creates a client with these layers. Opens no connection.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{
    ///     Client, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer,
    ///     client_credentials::AccessToken,
    /// };
    ///
    /// # fn main() -> Result<(), tower_m2m::BoxError> {
    /// let origin = "https://api.example.com".parse()?;
    /// let credentials = ClientCredentialsLayer::builder(AccessToken::new("token"), origin);
    /// let limits = RateLimitRetryLayer::builder().max_retries(2).build();
    /// let client = Client::new(&M2mLayer::new(limits, credentials.build()));
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new(layer: &M2mLayer) -> Self {
        let connector = Connector::of_environment();
        let connections = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(connector);
        Self {
            handle: layer.handle(),
            service: layer.layer(Connections(connections)),
        }
    }

    /// Starts a GET request.
    pub fn get(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Starts a POST request.
    pub fn post(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// Starts a PUT request.
    pub fn put(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PUT, url)
    }

    /// Starts a PATCH request.
    pub fn patch(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PATCH, url)
    }

    /// Starts a DELETE request.
    pub fn delete(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::DELETE, url)
    }

    /// Starts a request with any method. A wrong URL is reported by [`RequestBuilder::send`].
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, url.as_ref())
    }

    /// Returns a handle to the tokens and quotas.
    #[must_use]
    pub fn handle(&self) -> &M2mHandle {
        &self.handle
    }

    /// Returns the client as a service, for further layers.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use http::Request;
    /// use tower::{ServiceBuilder, ServiceExt};
    /// use tower_m2m::{BoxError, Client, client::RequestBody};
    ///
    /// # async fn example(client: Client) -> Result<(), BoxError> {
    /// let service = ServiceBuilder::new()
    ///     .concurrency_limit(64)
    ///     .service(client.into_service());
    /// let request = Request::get("https://api.example.com/orders").body(RequestBody::empty())?;
    /// println!("{}", service.oneshot(request).await?.status());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn into_service(
        self,
    ) -> impl Service<
        http::Request<RequestBody>,
        Response = http::Response<ResponseBody>,
        Error = BoxError,
        Future: Send,
    > + Clone
    + Send
    + 'static {
        self.service
    }
}

impl Config {
    /// Returns a client with these credentials, and with the default limits.
    ///
    /// # Errors
    ///
    /// Those of [`layer`](Self::layer).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::client_credentials::Config;
    ///
    /// let variables = [
    ///     ("OAUTH_CLIENT_ID", "orders"),
    ///     ("OAUTH_CLIENT_SECRET", "secret"),
    ///     ("OAUTH_TOKEN_URL", "https://issuer.example/token"),
    ///     ("OAUTH_ALLOWED_ORIGINS", "https://api.example.com"),
    /// ];
    /// let read = |name: &str| {
    ///     let found = variables.iter().find(|(known, _)| *known == name);
    ///     found.map(|(_, value)| (*value).to_owned())
    /// };
    /// let client = Config::from_vars("OAUTH_", read)?.client()?;
    /// # drop(client);
    /// # Ok::<(), tower_m2m::client_credentials::ConfigError>(())
    /// ```
    pub fn client(&self) -> Result<Client, ConfigError> {
        let credentials = self.layer()?.build();
        Ok(Client::new(&M2mLayer::new(
            RateLimitRetryLayer::new(),
            credentials,
        )))
    }
}

impl Service<http::Request<RequestBody>> for Connections {
    type Response = http::Response<ResponseBody>;
    type Error = BoxError;
    type Future = body::ConnectionFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The pool is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<RequestBody>) -> Self::Future {
        body::ConnectionFuture::new(self.0.request(request))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
