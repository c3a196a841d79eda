//! A resource server on loopback that checks tokens, enforces and announces quotas, and counts requests.

mod builder;
mod dialect;
mod quotas;
mod resource;
mod service;

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::RETRY_AFTER};

pub use self::{builder::ApiBuilder, dialect::Dialect, service::ApiService};
use super::{script::lock, serve::Server};

/// A resource server on 127.0.0.1.
///
/// Each request is checked in this order: a scripted fault, the metadata, the token, the quotas, the routes. The body is read in full
/// before that. The server stops when it is dropped.
///
/// Requests that get a fault are neither checked nor charged to a quota, except those with [`ApiFault::Delay`].
///
/// # Examples
///
/// ```
/// use http::{Request, StatusCode};
/// use http_body_util::Full;
/// use tower::ServiceExt;
/// use tower_m2m::{BoxError, test_util::{Api, ApiFault}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let api = Api::builder().in_process();
/// api.next(ApiFault::status(StatusCode::BAD_GATEWAY));
///
/// let request = Request::get(api.url()).body(Full::<bytes::Bytes>::default())?;
/// let response = api.service().oneshot(request).await?;
///
/// assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
/// # Ok(())
/// # }
/// ```
pub struct Api {
    /// The server's logic and state.
    service: ApiService,
    /// Stops the listener when dropped. `None` in process.
    server: Option<Server>,
}

/// The counters of an [`Api`].
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_m2m::{BoxError, test_util::{Api, ApiFault, ApiStats}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let api = Api::builder().in_process();
/// api.next(ApiFault::Unauthorized);
/// api.service().oneshot(Request::get("/").body(String::new())?).await?;
///
/// let seen: ApiStats = api.stats();
///
/// assert_eq!((seen.requests, seen.unauthorized, seen.ok), (1, 1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ApiStats {
    /// Number of requests that arrived, whatever the response.
    pub requests: u64,
    /// Number of 2xx responses.
    pub ok: u64,
    /// Number of 401 responses, including scripted ones.
    pub unauthorized: u64,
    /// Number of 429 responses, including scripted ones.
    pub rate_limited: u64,
    /// Maximum number of requests that arrived within any 100 ms.
    pub peak_100ms: u64,
}

/// A request as it arrived.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_m2m::{BoxError, test_util::{Api, RecordedRequest}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let api = Api::builder().in_process();
/// api.service().oneshot(Request::put("/orders/1?verbose").body("data".to_owned())?).await?;
///
/// let requests: Vec<RecordedRequest> = api.requests();
///
/// assert_eq!((requests[0].path.as_str(), requests[0].body_length), ("/orders/1", 4));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// Method of the request.
    pub method: Method,
    /// Path of the request, without the query.
    pub path: String,
    /// Whether the request had an `Authorization` header.
    pub has_authorization: bool,
    /// Length of the body, in bytes.
    pub body_length: u64,
    /// Time of arrival since the server's start.
    pub at: Duration,
}

/// A scripted response to one request; see [`Api::next`].
///
/// # Examples
///
/// ```
/// use http::StatusCode;
/// use tower_m2m::test_util::{Api, ApiFault};
///
/// let api = Api::builder().in_process();
/// // First it throttles for 2 s, then it breaks the connection, then it is well.
/// api.next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 2));
/// api.next(ApiFault::Reset);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ApiFault {
    /// This response, whatever the request.
    Status {
        /// Status of the response.
        code: StatusCode,
        /// Headers of the response.
        headers: HeaderMap,
        /// Body of the response.
        body: Bytes,
    },
    /// A 401 with the configured challenge, even if the token is valid.
    Unauthorized,
    /// A normal response, which the server starts to process only after this delay.
    Delay(Duration),
    /// No response, ever.
    Hang,
    /// The connection is closed without a response (HTTP/2: the stream is reset).
    Reset,
}

impl Api {
    /// Returns a builder of a resource server.
    pub fn builder() -> ApiBuilder {
        ApiBuilder::new()
    }

    /// Returns scheme, host and port, such as `http://127.0.0.1:40001`.
    #[must_use]
    pub fn origin(&self) -> String {
        self.service.0.origin.clone()
    }

    /// Returns the URL of the root, such as `http://127.0.0.1:40001/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/", self.service.0.origin)
    }

    /// Returns this server without its socket, with the same state.
    ///
    /// Use it in tests with paused time: a paused clock advances while bytes are in transit over a socket.
    #[must_use]
    pub fn service(&self) -> ApiService {
        self.service.clone()
    }

    /// Scripts `fault` for the next request that has no fault yet. Several calls queue up.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{Request, StatusCode};
    /// use tower::ServiceExt;
    /// use tower_m2m::{BoxError, test_util::{Api, ApiFault}};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let api = Api::builder().in_process();
    /// let get = || Request::get("/").body(String::new());
    /// api.next(ApiFault::status(StatusCode::BAD_GATEWAY));
    ///
    /// let first = api.service().oneshot(get()?).await?;
    /// let second = api.service().oneshot(get()?).await?;
    ///
    /// assert_eq!(first.status(), StatusCode::BAD_GATEWAY);
    /// assert_eq!(second.status(), StatusCode::OK);
    /// # Ok(())
    /// # }
    /// ```
    pub fn next(&self, fault: ApiFault) {
        self.service.0.script.push(fault);
    }

    /// Scripts `fault` for every request, once those from [`next`](Self::next) are used up. Default: none.
    pub fn always(&self, fault: Option<ApiFault>) {
        self.service.0.script.always(fault);
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> ApiStats {
        lock(&self.service.0.counts).stats
    }

    /// Returns the requests so far, oldest first; the last 10,000.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.service.0.requests.to_vec()
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("origin", &self.service.0.origin)
            .field("listens", &self.server.is_some())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl ApiFault {
    /// Creates a response with this status and an empty body.
    #[must_use]
    pub fn status(code: StatusCode) -> Self {
        Self::Status {
            code,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// Creates a response with this status, `Retry-After` in seconds, and an empty body.
    #[must_use]
    pub fn retry_after(code: StatusCode, seconds: u64) -> Self {
        Self::Status {
            code,
            headers: HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from(seconds))]),
            body: Bytes::new(),
        }
    }
}
