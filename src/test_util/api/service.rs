//! The resource server's logic as a service, with or without a socket.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use tower_service::Service;

use super::{
    super::{
        BoxError,
        dpop::{self, DpopChecks},
        fault_target,
        recorded_request::RecordedRequest,
        script::{Record, Script, lock, reset, reset_stream},
        serve::Connection,
        time::Epoch,
        token_registry::TokenRegistry,
    },
    ApiBody, ApiFault, ApiStats, Dialect,
    quotas::Quotas,
    resource::ProtectedResource,
};

/// An [`Api`](super::Api) without its socket. Clones share all state; it continues to work after the server is dropped.
///
/// The authority of a request's URI is ignored, only its path counts.
///
/// It is always ready. A scripted reset is an `io::Error` of kind
/// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset). Dropping the future of a call cancels it.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_m2m::{RateLimitRetryLayer, test_util::{Api, ApiService}};
///
/// let api = Api::builder().in_process();
/// let service: ApiService = api.service();
///
/// // The stack of a test, without a socket.
/// let client = ServiceBuilder::new().layer(RateLimitRetryLayer::new()).service(service);
/// # drop(client);
/// ```
#[derive(Clone)]
pub struct ApiService(pub(super) Arc<State>);

/// The state of a server. None of its locks is held while another one is taken.
pub(super) struct State {
    /// Scheme, host and port.
    pub(super) origin: String,
    /// Accepted credentials.
    pub(super) admission: Admission,
    /// The resource whose metadata is published.
    pub(super) resource: Option<ProtectedResource>,
    /// The quotas and their use.
    pub(super) quotas: Quotas,
    /// Headers that announce the quotas.
    pub(super) dialect: Dialect,
    /// Duration of every response.
    pub(super) latency: Duration,
    /// Responses of the test's own.
    pub(super) routes: Vec<Route>,
    /// The server's clock.
    pub(super) epoch: Epoch,
    /// Scripted faults.
    pub(super) script: Script<ApiFault>,
    /// Nonce and proofs.
    pub(super) dpop: DpopChecks,
    /// The counters.
    pub(super) counts: Mutex<Counts>,
    /// The requests so far.
    pub(super) requests: Record,
}

/// The credentials that a server accepts.
pub(super) struct Admission {
    /// The registry of valid tokens.
    pub(super) tokens: Option<TokenRegistry>,
    /// Header and value of an API key.
    pub(super) api_key: Option<(HeaderName, String)>,
    /// `WWW-Authenticate` of a 401.
    pub(super) challenge: Option<HeaderValue>,
}

/// A response of the test's own.
pub(super) struct Route {
    /// Method to match.
    pub(super) method: Method,
    /// Path to match; a prefix if it ends in `*`.
    pub(super) path: String,
    /// Builds the response.
    pub(super) answer: Box<dyn Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync>,
}

/// The counters, and the arrivals of the last 100 ms.
#[derive(Default)]
pub(super) struct Counts {
    /// The counters.
    pub(super) stats: ApiStats,
    /// Times of arrival, oldest first.
    recent: VecDeque<Duration>,
}

impl<B> Service<Request<B>> for ApiService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<ApiBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ApiBody>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move { state.serve(request).await })
    }
}

impl fmt::Debug for ApiService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiService")
            .field("origin", &self.0.origin)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Serves one request: records it, applies a scripted fault or responds normally, and waits for the latency.
    async fn serve<B>(&self, request: Request<B>) -> Result<Response<ApiBody>, BoxError>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let at = self.epoch.now();
        // Counted before the body is read, so that requests whose bodies fail are counted, too.
        lock(&self.counts).arrived(at);
        let (head, body) = request.into_parts();
        let fault = self
            .script
            .take(|target| target.matches(&head.method, head.uri.path()));
        let body = match fault {
            Some(ApiFault::EarlyStatus(_)) => Bytes::new(),
            _ => body.collect().await.map_err(Into::into)?.to_bytes(),
        };
        // Recorded once the body has arrived, because the record contains it.
        self.requests.push(RecordedRequest::new(&head, &body, at));
        let request = Request::from_parts(head, body);

        let mut response = match fault {
            None => self.answer(&request),
            Some(ApiFault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.answer(&request)
            }
            // Ends when the client drops the connection or the future.
            Some(ApiFault::Hang) => pending().await,
            Some(ApiFault::Reset) => return Err(reset()),
            Some(ApiFault::ResetStream(code)) => return Err(reset_stream(code)),
            Some(ApiFault::Unauthorized) => self.admission.unauthorized(),
            Some(ApiFault::EarlyStatus(code)) => with_status(code, Bytes::new()),
            Some(ApiFault::Status {
                code,
                ref headers,
                ref body,
            }) => {
                let mut response = with_status(code, body.clone());
                *response.headers_mut() = headers.clone();
                response
            }
            Some(ApiFault::Truncate(length)) => {
                self.answer(&request).map(|body| body.truncate(length))
            }
            Some(ApiFault::Trickle { bytes, interval }) => self
                .answer(&request)
                .map(|body| body.trickle(bytes, interval)),
            Some(ApiFault::GoAway) => {
                if let Some(connection) = request.extensions().get::<Connection>() {
                    connection.close();
                }
                self.answer(&request)
            }
        };
        // Counted before the latency, so that the counters do not depend on when the client reads the response.
        lock(&self.counts).answered(response.status());
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        self.dpop.announce(response.headers_mut());
        self.epoch.date(response.headers_mut());
        Ok(response)
    }

    /// Responds normally: publishes metadata, or checks the credentials and the quotas, then calls the route.
    fn answer(&self, request: &Request<Bytes>) -> Response<ApiBody> {
        let metadata = self.resource.as_ref();
        if let Some(resource) = metadata.filter(|resource| resource.path == request.uri().path()) {
            return json(StatusCode::OK, resource.document.clone());
        }
        let now = self.epoch.now();
        let proof = Proof {
            dpop: &self.dpop,
            origin: &self.origin,
            now: self.epoch.wall_clock(now),
        };
        if let Some(rejected) = self.admission.reject(request, proof) {
            return rejected;
        }
        let path = request.uri().path();
        let verdicts = self.quotas.admit(request.method(), path, now);
        let mut response = if verdicts.iter().all(|verdict| verdict.decision.allowed) {
            self.routes
                .iter()
                .find(|route| route.matches(request.method(), path))
                .map_or_else(
                    || ok(request.body().len()),
                    |route| (route.answer)(request).map(ApiBody::from),
                )
        } else {
            json(StatusCode::TOO_MANY_REQUESTS, r#"{"ok":false}"#)
        };
        let wall = self.epoch.wall_clock(now);
        self.dialect.write(response.headers_mut(), &verdicts, wall);
        response
    }
}

impl Admission {
    /// Returns the response to a request without accepted credentials; `None` if it has some.
    fn reject(&self, request: &Request<Bytes>, proof: Proof<'_>) -> Option<Response<ApiBody>> {
        let by_key = self.api_key.as_ref().is_some_and(|(name, value)| {
            let sent = request.headers().get(name);
            sent.is_some_and(|sent| sent.as_bytes() == value.as_bytes())
        });
        match &self.tokens {
            _ if by_key => None,
            Some(tokens) => proof.reject(request, tokens, self),
            // No credentials are configured: every request is accepted.
            None if self.api_key.is_none() => None,
            None => Some(self.unauthorized()),
        }
    }

    /// Creates a 401.
    fn unauthorized(&self) -> Response<ApiBody> {
        unauthorized(self.challenge.clone())
    }
}

/// What the proof of a request is checked with.
#[derive(Clone, Copy)]
struct Proof<'a> {
    /// Nonce and proofs.
    dpop: &'a DpopChecks,
    /// Scheme, host and port of the server.
    origin: &'a str,
    /// The server's wall-clock time.
    now: SystemTime,
}

impl Proof<'_> {
    /// Returns the response to a request without a valid token, or with a bound token and no valid proof of its key
    /// (RFC 9449 §7.1).
    fn reject(
        self,
        request: &Request<Bytes>,
        tokens: &TokenRegistry,
        admission: &Admission,
    ) -> Option<Response<ApiBody>> {
        let headers = request.headers();
        let credentials = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '));
        let Some((scheme, token)) = credentials else {
            return Some(admission.unauthorized());
        };
        let token = token.trim_start();
        let (is_valid, key) = (tokens.is_valid(token), tokens.jkt(token));
        if scheme.eq_ignore_ascii_case("bearer") {
            return match (is_valid, key) {
                (true, None) => None,
                // A bound token is no bearer token.
                (true, Some(_)) => Some(dpop_challenge("invalid_token")),
                (false, _) => Some(admission.unauthorized()),
            };
        }
        if !scheme.eq_ignore_ascii_case("dpop") {
            return Some(admission.unauthorized());
        }
        let url = dpop::url(request.uri(), self.origin);
        let checked = self
            .dpop
            .check(headers, request.method(), &url, Some(token), self.now);
        match checked {
            Err(rejected) => Some(dpop_challenge(rejected.code)),
            Ok(None) => Some(dpop_challenge("invalid_dpop_proof")),
            Ok(proven) if is_valid && proven == key => None,
            Ok(_) => Some(dpop_challenge("invalid_token")),
        }
    }
}

impl Route {
    /// Returns whether the route matches the request.
    fn matches(&self, method: &Method, path: &str) -> bool {
        self.method == *method && fault_target::fits(&self.path, path)
    }
}

impl Counts {
    /// Counts an arrival, and updates the peak.
    fn arrived(&mut self, at: Duration) {
        while self
            .recent
            .front()
            .is_some_and(|earlier| earlier.saturating_add(PEAK_WINDOW) <= at)
        {
            self.recent.pop_front();
        }
        self.recent.push_back(at);
        self.stats.requests += 1;
        self.stats.peak_100ms = self.stats.peak_100ms.max(self.recent.len() as u64);
    }

    /// Counts a response.
    fn answered(&mut self, status: StatusCode) {
        self.stats.rejected += u64::from(status.is_client_error() || status.is_server_error());
        match status {
            StatusCode::UNAUTHORIZED => self.stats.unauthorized += 1,
            StatusCode::TOO_MANY_REQUESTS => self.stats.rate_limited += 1,
            _ if status.is_success() => self.stats.ok += 1,
            _ => {}
        }
    }
}

/// Creates the default response.
fn ok(received: usize) -> Response<ApiBody> {
    let body = format!(r#"{{"ok":true,"received":{received}}}"#);
    json(StatusCode::OK, body)
}

/// Creates a JSON response.
fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<ApiBody> {
    let mut response = with_status(status, body.into());
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Creates a 401 with this challenge.
fn unauthorized(challenge: Option<HeaderValue>) -> Response<ApiBody> {
    let mut response = json(StatusCode::UNAUTHORIZED, r#"{"ok":false}"#);
    if let Some(challenge) = challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Creates a 401 with the challenge of RFC 9449 §7.1.
fn dpop_challenge(error: &str) -> Response<ApiBody> {
    let algorithms = dpop::ALGORITHMS.join(" ");
    let challenge = format!("DPoP error=\"{error}\", algs=\"{algorithms}\"");
    unauthorized(HeaderValue::try_from(challenge).ok())
}

/// Creates a response with this status and body.
fn with_status(status: StatusCode, body: Bytes) -> Response<ApiBody> {
    let mut response = Response::new(ApiBody::new(body));
    *response.status_mut() = status;
    response
}

/// Window of `peak_100ms`.
const PEAK_WINDOW: Duration = Duration::from_millis(100);
