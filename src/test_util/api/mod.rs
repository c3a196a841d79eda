//! A resource server on loopback that checks tokens, enforces and announces quotas, and counts requests.

mod body;
mod builder;
mod dialect;
mod quotas;
mod resource;
mod service;

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};

pub use self::{body::ApiBody, builder::ApiBuilder, dialect::Dialect, service::ApiService};
use super::{
    fault_target::FaultTarget, recorded_request::RecordedRequest, script::lock, serve::Server,
};

/// A resource server on 127.0.0.1.
///
/// Each request is checked in this order: a scripted fault, the metadata, the token, the quotas, the routes. The body is read in full
/// before that, except with [`ApiFault::EarlyStatus`]. The server stops when it is dropped.
///
/// A fault that replaces the response precludes the checks, and is not charged to a quota.
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
    /// Number of 4xx and 5xx responses, including scripted ones.
    pub rejected: u64,
    /// Number of 401 responses, including scripted ones.
    pub unauthorized: u64,
    /// Number of 429 responses, including scripted ones.
    pub rate_limited: u64,
    /// Maximum number of requests that arrived within any 100 ms.
    pub peak_100ms: u64,
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
    /// The connection is closed without a response (HTTP/2: the stream is reset with `INTERNAL_ERROR`).
    Reset,
    /// This status with an empty body, before the request's body is read. The server reads none of it.
    EarlyStatus(StatusCode),
    /// A normal response whose body breaks off after this many bytes, but at least one byte before its end: HTTP/1 closes the
    /// connection, HTTP/2 resets the stream. An empty body stays as it is.
    Truncate(usize),
    /// A normal response whose body arrives in pieces of this many bytes, each one after the interval.
    Trickle {
        /// Maximum size of a piece, in bytes; at least 1.
        bytes: usize,
        /// Time before each piece, on tokio's clock.
        interval: Duration,
    },
    /// No response: the stream is reset with this error code (RFC 9113 §7), such as 7 for `REFUSED_STREAM`, which promises
    /// that the request was not processed. HTTP/1 closes the connection.
    ///
    /// In process, the code is that of a local `h2::Error`, which promises nothing: use [`ApiBuilder::start`].
    ResetStream(u32),
    /// A normal response, and the end of its connection: HTTP/2 sends GOAWAY (RFC 9113 §6.8) and completes the streams in
    /// flight, HTTP/1 sends `Connection: close`. In process, only the normal response.
    GoAway,
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
        self.next_for(FaultTarget::any(), fault);
    }

    /// Scripts `fault` for the next request of `target` that has no fault yet. Several calls queue up.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{Request, StatusCode};
    /// use tower::ServiceExt;
    /// use tower_m2m::{BoxError, test_util::{Api, ApiFault, FaultTarget}};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let api = Api::builder().in_process();
    /// let send = |path| {
    ///     let request = Request::get(path).body(String::new()).expect("a request");
    ///     api.service().oneshot(request)
    /// };
    /// // The second request for an order.
    /// let target = FaultTarget::any().path("/orders/*").nth(2);
    /// api.next_for(target, ApiFault::status(StatusCode::BAD_GATEWAY));
    ///
    /// assert_eq!(send("/orders/1").await?.status(), StatusCode::OK);
    /// assert_eq!(send("/items/1").await?.status(), StatusCode::OK);
    /// assert_eq!(send("/orders/1").await?.status(), StatusCode::BAD_GATEWAY);
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_for(&self, target: FaultTarget, fault: ApiFault) {
        self.service.0.script.push(target, fault);
    }

    /// Scripts `fault` for every request, once those from [`next`](Self::next) are used up. Default: none.
    pub fn always(&self, fault: Option<ApiFault>) {
        self.always_for(FaultTarget::any(), fault);
    }

    /// Scripts `fault` for every request of `target` that has no fault from [`next`](Self::next); `None` ends that. Default:
    /// none.
    ///
    /// It takes precedence over [`always`](Self::always). Among several targets, the one set first does.
    pub fn always_for(&self, target: FaultTarget, fault: Option<ApiFault>) {
        self.service.0.script.always(target, fault);
    }

    /// Sets the nonce that each DPoP proof must contain (RFC 9449 §9) from now on; other proofs get a 401 with
    /// `use_dpop_nonce`. Each response announces it. Default: `None`.
    pub fn set_dpop_nonce(&self, nonce: Option<String>) {
        self.service.0.dpop.set_nonce(nonce);
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
