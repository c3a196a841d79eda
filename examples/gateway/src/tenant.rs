//! A tenant: its credential, its limits, its upstream. Nothing is shared between tenants but the connection pool and the
//! budget for bodies.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_m2m::{
    BoxError, M2mLayer, Origin, RateLimitRetryLayer,
    client_credentials::TokenHandle,
    rate_limit_retry::QuotaHandle,
    replay::{ReplayBody, RequestBodyReplay, RequestBodyReplayLayer},
    tenants::{CredentialId, Tenants, TenantsHandle, TenantsLayer},
};

use crate::{
    answer::{self, Failure, Outcome},
    body::Upload,
    call::Call,
    config::{Config, Credentials, TenantConfig},
    limits::RequestLimit,
    metrics::{Metrics, Scraped},
    strip::{self, Target},
    template::Templates,
    via,
};

/// hyper-util's client behind one reference count: the layers clone it for each request, and it has a dozen of its own.
struct Http<B>(Arc<Client<HttpsConnector<HttpConnector>, B>>);

impl<B> Clone for Http<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> Service<Request<B>> for Http<B>
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<Incoming>;
    type Error = hyper_util::client::legacy::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        self.0.request(request)
    }
}

/// What all tenants' requests go through: with layers, which are the tenant's by its [`CredentialId`], and without.
pub(crate) struct Stacks {
    layered: RequestBodyReplay<Tenants<Http<ReplayBody<Body>>>>,
    plain: Http<Body>,
    layers: Layers,
    handle: TenantsHandle,
    /// Number of credentials so far: a replaced one has another id, so that no request gets the layers of the old one.
    generation: AtomicU64,
}

/// The layers of each credential.
type Layers = Arc<RwLock<HashMap<CredentialId, M2mLayer>>>;

impl Stacks {
    pub(crate) fn new(config: &Config, connector: HttpsConnector<HttpConnector>) -> Self {
        let layers = Layers::default();
        let known = Arc::clone(&layers);
        let tenants = TenantsLayer::new(move |id| Ok(read(&known).get(id).cloned()));
        let handle = tenants.handle();
        let replay = RequestBodyReplayLayer::new()
            .max_body_bytes(config.replay_cap)
            .max_total_bytes(config.replay_budget);
        Self {
            layered: ServiceBuilder::new()
                .layer(replay)
                .layer(tenants)
                .service(client(connector.clone())),
            plain: client(connector),
            layers,
            handle,
            generation: AtomicU64::new(0),
        }
    }

    /// Builds the layers of a credential, and makes them known.
    fn credential(
        &self,
        name: &str,
        tenant: &TenantConfig,
        credentials: &Credentials,
        config: &Config,
        metrics: &Arc<Metrics>,
    ) -> Result<Credential, BoxError> {
        let generation = self.generation.fetch_add(1, Relaxed);
        let id = CredentialId::new(format!("{name}#{generation}"));
        let credential = Credential::new(id.clone(), name, tenant, credentials, config, metrics)?;
        let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        layers.insert(id, credential.layer.clone());
        Ok(credential)
    }

    /// Forgets the layers of a credential. Requests in flight continue.
    pub(crate) fn forget(&self, credential: &Credential) {
        let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        layers.remove(&credential.id);
        drop(layers);
        self.handle.forget(&credential.id);
    }
}

fn read(layers: &Layers) -> RwLockReadGuard<'_, HashMap<CredentialId, M2mLayer>> {
    layers.read().unwrap_or_else(PoisonError::into_inner)
}

/// A client whose idle connections are closed after a while.
fn client<B>(connector: HttpsConnector<HttpConnector>) -> Http<B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(64)
        .build(connector);
    Http(Arc::new(client))
}

pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) credential: Option<Credential>,
    pub(crate) templates: Templates,
    /// Whether the gateway has given up the requests under way.
    pub(crate) aborted: Arc<AtomicBool>,
    requests: RequestLimit,
    target: Target,
    stack: Stack,
    basis: Basis,
    deadline: Duration,
}

/// What a credential and its quotas depend on.
#[derive(PartialEq)]
struct Basis {
    credentials: Option<Credentials>,
    upstream: Origin,
    retry_all_methods: bool,
    max_wait: u64,
}

/// A tenant's layers, and what is known about its token and quotas.
#[derive(Clone)]
pub(crate) struct Credential {
    id: CredentialId,
    pub(crate) tokens: TokenHandle,
    pub(crate) quotas: QuotaHandle,
    layer: M2mLayer,
}

enum Stack {
    Layers(
        CredentialId,
        RequestBodyReplay<Tenants<Http<ReplayBody<Body>>>>,
    ),
    Plain(Http<Body>),
}

impl Credential {
    fn new(
        id: CredentialId,
        name: &str,
        tenant: &TenantConfig,
        credentials: &Credentials,
        config: &Config,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, BoxError> {
        let (on_token, on_limit) = (Arc::clone(metrics), Arc::clone(metrics));
        let mut limits = RateLimitRetryLayer::builder()
            .max_wait(Duration::from_secs(config.max_wait))
            .on_event(move |event| on_limit.limit(event));
        if !tenant.retry_all_methods {
            limits = limits.idempotent_methods_only();
        }
        let credentials = credentials
            .config
            .layer_for(tenant.origin()?)?
            .name(name)
            .on_event(move |event| on_token.token(event));
        let layer = M2mLayer::new(limits.build(), credentials.build());
        Ok(Self {
            id,
            tokens: layer.handle().tokens(),
            quotas: layer.handle().quotas(),
            layer,
        })
    }
}

impl Tenant {
    /// `predecessor` is the same tenant before a reload: its credential with token and quotas, its counters and its
    /// requests in flight are kept, the credential only if nothing that it depends on has changed.
    pub(crate) fn new(
        name: &str,
        tenant: &TenantConfig,
        config: &Config,
        stacks: &Stacks,
        requests: RequestLimit,
        given_up: &Arc<AtomicBool>,
        predecessor: Option<&Self>,
    ) -> Result<Self, BoxError> {
        let origin = tenant.origin()?;
        let basis = Basis {
            credentials: tenant.credentials.clone(),
            upstream: origin.clone(),
            retry_all_methods: tenant.retry_all_methods,
            max_wait: config.max_wait,
        };
        let metrics = predecessor.map(|before| Arc::clone(&before.metrics));
        let metrics = metrics.unwrap_or_default();
        let credential = match (predecessor, &tenant.credentials) {
            (Some(before), _) if before.basis == basis => before.credential.clone(),
            (_, None) => None,
            (_, Some(own)) => Some(
                stacks
                    .credential(name, tenant, own, config, &metrics)
                    .map_err(|error| format!("credentials: {error}"))?,
            ),
        };
        let placement = tenant.credentials.as_ref().map(|c| c.placement.clone());
        Ok(Self {
            name: name.to_owned(),
            metrics,
            templates: tenant.templates()?,
            aborted: Arc::clone(given_up),
            requests: predecessor.map_or(requests, |before| before.requests.clone()),
            target: Target {
                origin,
                placement: placement.unwrap_or(http::header::AUTHORIZATION),
            },
            stack: match &credential {
                Some(own) => Stack::Layers(own.id.clone(), stacks.layered.clone()),
                None => Stack::Plain(stacks.plain.clone()),
            },
            credential,
            basis,
            deadline: Duration::from_secs(config.deadline),
        })
    }

    /// Whether both have the same credential.
    pub(crate) fn shares_credential(&self, other: &Self) -> bool {
        let id = |tenant: &Self| tenant.credential.as_ref().map(|own| own.id.clone());
        id(self) == id(other)
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Passes a request on, and its answer back.
    pub(crate) async fn forward(self: &Arc<Self>, mut request: Request<Body>) -> Response<Body> {
        let call = Call::begin(self, &request);
        let method = request.method().clone();
        if !via::may_go_on(&method, request.headers_mut()) {
            return call.answer(answer::final_recipient());
        }
        let Some(place) = self.requests.admit() else {
            let failure = Failure::new(
                Outcome::Overloaded,
                "max_requests or max_requests_per_tenant is reached",
            );
            return call.fail(failure.retry_after(Some(Duration::from_secs(1))));
        };
        let upload = Arc::<Upload>::default();
        let Some(request) = strip::request(request, &self.target, &upload) else {
            let cause = "CONNECT, TRACE and targets without a path are not forwarded";
            return call.fail(Failure::new(Outcome::BadRequest, cause));
        };
        // Outside the stack, where it costs a timer only.
        match timeout(self.deadline, self.stack.send(request)).await {
            Ok(Ok(response)) => match answer::of(response) {
                Ok(response) => call.pass(response, place),
                Err(failure) => call.fail(failure),
            },
            Ok(Err(error)) => call.fail(match upload.broken() {
                Some(cause) => Failure::new(Outcome::UploadBroken, cause),
                None => answer::of_error(&error),
            }),
            Err(_) if upload.is_waiting() => {
                let cause = "the caller did not send its body within `deadline`";
                call.fail(Failure::new(Outcome::UploadTimeout, cause))
            }
            Err(_) => {
                let cause = "the upstream did not respond within `deadline`";
                call.fail(Failure::new(Outcome::Deadline, cause))
            }
        }
    }

    pub(crate) fn scrape(&self) -> Scraped<'_> {
        let credential = self.credential.as_ref();
        Scraped {
            name: &self.name,
            metrics: &self.metrics,
            token: credential.map(|credential| credential.tokens.status()),
            quotas: credential.map_or_else(Vec::new, |credential| credential.quotas.status()),
        }
    }
}

impl Stack {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        match self {
            // The one place that says whose request it is: `strip::request` has left no extension of the caller's.
            Self::Layers(id, stack) => {
                request.extensions_mut().insert(id.clone());
                stack.clone().oneshot(request).await
            }
            Self::Plain(http) => Ok(http.clone().oneshot(request).await?),
        }
    }
}
