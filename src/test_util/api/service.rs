//! The resource server's logic as a service, with or without a socket in front.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, WWW_AUTHENTICATE},
};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use tower_service::Service;

use super::{
    super::{
        BoxError,
        script::{Record, Script, lock, reset},
        time::Epoch,
        token_book::TokenBook,
    },
    ApiFault, ApiSeen, Dialect, RecordedRequest,
    quotas::Quotas,
};

/// An [`Api`](super::Api) without its socket. Clones share everything; it works on after the server is dropped.
///
/// The authority of a request's URI is not looked at, only its path.
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

pub(super) struct State {
    pub(super) origin: String,
    pub(super) admission: Admission,
    pub(super) quotas: Quotas,
    pub(super) dialect: Dialect,
    pub(super) latency: Duration,
    pub(super) routes: Vec<Route>,
    pub(super) epoch: Epoch,
    pub(super) script: Script<ApiFault>,
    pub(super) counts: Mutex<Counts>,
    pub(super) requests: Record<RecordedRequest>,
}

/// Who may come in.
pub(super) struct Admission {
    pub(super) tokens: Option<TokenBook>,
    pub(super) api_key: Option<(HeaderName, String)>,
    pub(super) challenge: Option<HeaderValue>,
}

/// An answer of the test's own.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) answer: Box<dyn Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync>,
}

/// What has been counted, and the arrivals of the last 100 ms.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) seen: ApiSeen,
    recent: VecDeque<Duration>,
}

impl<B> Service<Request<B>> for ApiService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send>>;

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
    async fn serve<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, BoxError>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let at = self.epoch.now();
        lock(&self.counts).arrived(at);
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(Into::into)?.to_bytes();
        self.requests.push(RecordedRequest {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            has_authorization: head.headers.contains_key(AUTHORIZATION),
            body_length: body.len() as u64,
            at,
        });
        let request = Request::from_parts(head, body);

        let mut response = match self.script.take() {
            None => self.answer(&request),
            Some(ApiFault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.answer(&request)
            }
            Some(ApiFault::Hang) => pending().await,
            Some(ApiFault::Reset) => return Err(reset()),
            Some(ApiFault::Unauthorized) => self.admission.refuse(),
            Some(ApiFault::Status {
                code,
                headers,
                body,
            }) => {
                let mut response = Response::new(Full::new(body));
                *response.status_mut() = code;
                *response.headers_mut() = headers;
                response
            }
        };
        lock(&self.counts).answered(response.status());
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        self.date(response.headers_mut());
        Ok(response)
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        if !self.admission.admits(request.headers()) {
            return self.admission.refuse();
        }
        let now = self.epoch.now();
        let path = request.uri().path();
        let verdicts = self.quotas.admit(request.method(), path, now);
        let mut response = if verdicts.iter().all(|verdict| verdict.decision.allowed) {
            self.routes
                .iter()
                .find(|route| route.fits(request.method(), path))
                .map_or_else(|| ok(request.body().len()), |route| (route.answer)(request))
        } else {
            json(StatusCode::TOO_MANY_REQUESTS, r#"{"ok":false}"#)
        };
        let wall = self.epoch.wall(now);
        self.dialect.write(response.headers_mut(), &verdicts, wall);
        response
    }

    /// A `Date` of the server's own, so that it agrees with the reset times while the clock is paused.
    fn date(&self, headers: &mut HeaderMap) {
        let wall = self.epoch.wall(self.epoch.now());
        let date = HeaderValue::try_from(httpdate::fmt_http_date(wall));
        if let (false, Ok(date)) = (headers.contains_key(DATE), date) {
            headers.insert(DATE, date);
        }
    }
}

impl Admission {
    fn admits(&self, headers: &HeaderMap) -> bool {
        let by_token = self.tokens.as_ref().map(|tokens| {
            headers
                .get(AUTHORIZATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.split_once(' '))
                .is_some_and(|(scheme, token)| {
                    scheme.eq_ignore_ascii_case("bearer") && tokens.is_valid(token.trim_start())
                })
        });
        let by_key = self.api_key.as_ref().map(|(name, value)| {
            headers
                .get(name)
                .is_some_and(|sent| sent.as_bytes() == value.as_bytes())
        });
        match (by_token, by_key) {
            (None, None) => true,
            (by_token, by_key) => by_token == Some(true) || by_key == Some(true),
        }
    }

    fn refuse(&self) -> Response<Full<Bytes>> {
        let mut response = json(StatusCode::UNAUTHORIZED, r#"{"ok":false}"#);
        if let Some(challenge) = &self.challenge {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, challenge.clone());
        }
        response
    }
}

impl Route {
    fn fits(&self, method: &Method, path: &str) -> bool {
        let fits = match self.path.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => self.path == path,
        };
        fits && self.method == *method
    }
}

impl Counts {
    fn arrived(&mut self, at: Duration) {
        while self
            .recent
            .front()
            .is_some_and(|earlier| earlier.saturating_add(PEAK) <= at)
        {
            self.recent.pop_front();
        }
        self.recent.push_back(at);
        self.seen.requests += 1;
        self.seen.peak_100ms = self.seen.peak_100ms.max(self.recent.len() as u64);
    }

    fn answered(&mut self, status: StatusCode) {
        match status {
            StatusCode::UNAUTHORIZED => self.seen.unauthorized += 1,
            StatusCode::TOO_MANY_REQUESTS => self.seen.rate_limited += 1,
            _ if status.is_success() => self.seen.ok += 1,
            _ => {}
        }
    }
}

fn ok(received: usize) -> Response<Full<Bytes>> {
    let body = format!(r#"{{"ok":true,"received":{received}}}"#);
    json(StatusCode::OK, body)
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

const PEAK: Duration = Duration::from_millis(100);
