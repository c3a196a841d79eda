//! A resource server on loopback: checks tokens, enforces quotas, tells of them, and counts.

mod builder;
mod dialect;
mod quotas;
mod service;

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::RETRY_AFTER};

pub use self::{builder::ApiBuilder, dialect::Dialect, service::ApiService};
use super::{script::lock, serve::Server};

/// A resource server on 127.0.0.1.
///
/// Each request is looked at in this order: a scripted fault, the token, the quotas, the routes. Bodies are read in
/// full first. It stops when it is dropped.
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
    service: ApiService,
    /// Held for its `Drop`; none in process.
    server: Option<Server>,
}

/// What an [`Api`] has counted.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_m2m::{BoxError, test_util::{Api, ApiFault, ApiSeen}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let api = Api::builder().in_process();
/// api.next(ApiFault::Unauthorized);
/// api.service().oneshot(Request::get("/").body(String::new())?).await?;
///
/// let seen: ApiSeen = api.seen();
///
/// assert_eq!((seen.requests, seen.unauthorized, seen.ok), (1, 1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ApiSeen {
    /// Requests that arrived, whatever became of them.
    pub requests: u64,
    /// Requests answered with a 2xx.
    pub ok: u64,
    /// Requests answered with a 401, scripted ones included.
    pub unauthorized: u64,
    /// Requests answered with a 429, scripted ones included.
    pub rate_limited: u64,
    /// The most requests that arrived within any 100 ms.
    pub peak_100ms: u64,
}

/// One request as it arrived.
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
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// Whether there was an `Authorization` header.
    pub has_authorization: bool,
    /// The length of its body in bytes.
    pub body_length: u64,
    /// When it arrived, since the server's start.
    pub at: Duration,
}

/// What one request meets; see [`Api::next`].
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
    /// This answer, whatever was asked.
    Status {
        /// The status.
        code: StatusCode,
        /// The headers.
        headers: HeaderMap,
        /// The body.
        body: Bytes,
    },
    /// A 401 with the configured challenge, however valid the token is. With [`Api::always`]: always.
    Unauthorized,
    /// An ordinary answer, which the server begins to work on after this time only.
    Delay(Duration),
    /// No answer, ever.
    Hang,
    /// The connection is closed without an answer (HTTP/2: the stream is reset).
    Reset,
}

impl Api {
    /// Sets up a resource server.
    pub fn builder() -> ApiBuilder {
        ApiBuilder::new()
    }

    /// Scheme, host and port, such as `http://127.0.0.1:40001`.
    #[must_use]
    pub fn origin(&self) -> String {
        self.service.0.origin.clone()
    }

    /// The address of the root, such as `http://127.0.0.1:40001/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/", self.service.0.origin)
    }

    /// This server without its socket, with the same state.
    #[must_use]
    pub fn service(&self) -> ApiService {
        self.service.clone()
    }

    /// The next request that nobody else has claimed meets `fault`. Several calls queue up.
    pub fn next(&self, fault: ApiFault) {
        self.service.0.script.push(fault);
    }

    /// Every request meets `fault` from now on, once those from [`next`](Self::next) are used up. Default: none.
    pub fn always(&self, fault: Option<ApiFault>) {
        self.service.0.script.always(fault);
    }

    /// What has been counted so far.
    #[must_use]
    pub fn seen(&self) -> ApiSeen {
        lock(&self.service.0.counts).seen
    }

    /// The requests so far, oldest first; the last 10,000.
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
            .field("seen", &self.seen())
            .finish_non_exhaustive()
    }
}

impl ApiFault {
    /// An answer with this status and an empty body.
    #[must_use]
    pub fn status(code: StatusCode) -> Self {
        Self::Status {
            code,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// An answer with this status, `Retry-After` in seconds, and an empty body.
    #[must_use]
    pub fn retry_after(code: StatusCode, seconds: u64) -> Self {
        Self::Status {
            code,
            headers: HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from(seconds))]),
            body: Bytes::new(),
        }
    }
}
