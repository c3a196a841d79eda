//! Doubles for the tests: a token source and an API, both in process and counting.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod server;
pub(crate) mod temp_file;
#[cfg(feature = "https")]
pub(crate) mod tls;

use std::{
    collections::HashSet,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use tokio::task::JoinHandle;
use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, ClientCredentialsLayer, Origin,
    client_credentials::{
        AccessToken, ClientCredentialsLayerBuilder, FetchContext, TokenError, TokenSource,
    },
    test_util::{ApiBody, ApiService},
};

pub(crate) type Body = Full<Bytes>;
pub(crate) type Inner = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

pub(crate) const API: &str = "https://api.example.com";
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A service of requests as the tests send them, whatever layers it has.
pub(crate) trait Client:
    Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> Client for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// Issues `token-1`, `token-2` and so on, each valid until it is revoked.
#[derive(Clone, Default)]
pub(crate) struct Source(Arc<SourceState>);

#[derive(Default)]
struct SourceState {
    fetches: AtomicUsize,
    valid: Mutex<HashSet<String>>,
    delay: Mutex<Duration>,
    lifetime: Mutex<Option<Duration>>,
    failure: Mutex<Option<TokenError>>,
}

impl Source {
    pub(crate) fn with_lifetime(lifetime: Duration) -> Self {
        let source = Self::default();
        *source.0.lifetime.lock().unwrap() = Some(lifetime);
        source
    }

    pub(crate) fn with_delay(self, delay: Duration) -> Self {
        *self.0.delay.lock().unwrap() = delay;
        self
    }

    pub(crate) fn fail_with(&self, error: Option<TokenError>) {
        *self.0.failure.lock().unwrap() = error;
    }

    pub(crate) fn fetches(&self) -> usize {
        self.0.fetches.load(Ordering::SeqCst)
    }

    pub(crate) fn revoke_all(&self) {
        self.0.valid.lock().unwrap().clear();
    }

    pub(crate) fn accepts<B>(&self, request: &Request<B>) -> bool {
        let value = request.headers().get(header::AUTHORIZATION);
        value.is_some_and(|value| {
            let token = value.to_str().unwrap().strip_prefix("Bearer ");
            self.0.valid.lock().unwrap().contains(token.unwrap_or(""))
        })
    }

    /// 200 for a valid token, 401 otherwise.
    pub(crate) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        status_only(if self.accepts(request) {
            StatusCode::OK
        } else {
            StatusCode::UNAUTHORIZED
        })
    }
}

impl TokenSource for Source {
    async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        let number = self.0.fetches.fetch_add(1, Ordering::SeqCst) + 1;
        let delay = *self.0.delay.lock().unwrap();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if let Some(error) = self.0.failure.lock().unwrap().clone() {
            return Err(error);
        }
        let name = format!("token-{number}");
        self.0.valid.lock().unwrap().insert(name.clone());
        let token = AccessToken::new(name);
        Ok(match *self.0.lifetime.lock().unwrap() {
            Some(lifetime) => token.expires_in(lifetime),
            None => token,
        })
    }
}

pub(crate) fn origin() -> Origin {
    API.parse().unwrap()
}

pub(crate) fn layer(source: &Source) -> ClientCredentialsLayerBuilder {
    ClientCredentialsLayer::builder(source.clone(), origin()).seed(7)
}

/// An API that accepts the source's valid tokens and says 401 otherwise; and how often it was called.
pub(crate) fn api(source: &Source) -> (Inner, Arc<AtomicUsize>) {
    let source = source.clone();
    serving(move |request| std::future::ready(source.answer(&request)))
}

/// An API of any kind; and how often it was called.
pub(crate) fn serving<F>(
    answer: impl Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
) -> (Inner, Arc<AtomicUsize>)
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let service = service_fn(move |request| {
        counter.fetch_add(1, Ordering::SeqCst);
        let answer = answer(request);
        async move { Ok::<_, BoxError>(answer.await) }
    });
    (BoxCloneSyncService::new(service), calls)
}

/// An API of the test kit, whose responses have arrived in full.
pub(crate) fn in_full(api: ApiService) -> Inner {
    let collect = |response: Response<ApiBody>| async {
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response::from_parts(parts, Body::new(body)))
    };
    BoxCloneSyncService::new(ServiceExt::<Request<Body>>::and_then(api, collect))
}

pub(crate) fn status_only(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}

/// A 429 with `Retry-After: {hint}`.
pub(crate) fn throttled(hint: &str) -> Response<Body> {
    let mut response = status_only(StatusCode::TOO_MANY_REQUESTS);
    let hint = hint.parse().unwrap();
    response.headers_mut().insert(header::RETRY_AFTER, hint);
    response
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(format!("{API}{path}"))
        .body(Body::default())
        .unwrap()
}

pub(crate) fn post(path: &str) -> Request<Body> {
    Request::post(format!("{API}{path}"))
        .body(Body::from("body"))
        .unwrap()
}

/// Sends one request through a clone of `service`.
pub(crate) async fn send(
    service: &impl Client,
    request: Request<Body>,
) -> Result<Response<Body>, BoxError> {
    service.clone().oneshot(request).await
}

/// The same, on a task of its own.
pub(crate) fn spawn(
    service: &impl Client,
    request: Request<Body>,
) -> JoinHandle<Result<Response<Body>, BoxError>> {
    tokio::spawn(service.clone().oneshot(request))
}
