//! A tenant: its credential, its limits, its upstream. Nothing is shared between tenants but the connection pool.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use tokio::time::timeout;
use tower::{Layer, ServiceExt};
use tower_m2m::{
    BoxError, M2mLayer, RateLimitRetryLayer,
    client_credentials::TokenHandle,
    rate_limit_retry::QuotaHandle,
    replay::{ReplayBody, RequestBodyReplay, RequestBodyReplayLayer},
    stack::M2m,
};

use crate::{
    answer,
    config::{Config, TenantConfig},
    metrics::{Metrics, Scraped},
    now,
    strip::{self, Target},
};

type Http<B> = Client<HttpsConnector<HttpConnector>, B>;

/// The connections that all tenants share. They differ in their bodies only.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) replayed: Http<ReplayBody<Body>>,
    pub(crate) plain: Http<Body>,
}

pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) credential: Option<Credential>,
    target: Target,
    stack: Stack,
    deadline: Duration,
}

/// What is known about a tenant's token and quotas.
pub(crate) struct Credential {
    pub(crate) tokens: TokenHandle,
    pub(crate) quotas: QuotaHandle,
}

enum Stack {
    Layers(RequestBodyReplay<M2m<Http<ReplayBody<Body>>>>),
    Plain(Http<Body>),
}

impl Tenant {
    pub(crate) fn new(
        name: &str,
        tenant: &TenantConfig,
        config: &Config,
        clients: &Clients,
    ) -> Result<Self, BoxError> {
        let origin = tenant.origin()?;
        let metrics = Arc::<Metrics>::default();
        let (stack, credential) = match &tenant.credentials {
            None => (Stack::Plain(clients.plain.clone()), None),
            Some(credentials) => {
                let (on_token, on_limit) = (Arc::clone(&metrics), Arc::clone(&metrics));
                let mut limits = RateLimitRetryLayer::builder()
                    .max_wait(Duration::from_secs(config.max_wait))
                    .on_event(move |event| on_limit.limit(event));
                if !tenant.retry_all_methods {
                    limits = limits.idempotent_methods_only();
                }
                let credentials = credentials
                    .config
                    .layer_for(origin.clone())?
                    .name(name)
                    .on_event(move |event| on_token.token(event));
                let both = M2mLayer::new(limits.build(), credentials.build());
                let credential = Credential {
                    tokens: both.tokens(),
                    quotas: both.quotas(),
                };
                let replay = RequestBodyReplayLayer::new().cap(config.replay_cap);
                let stack = replay.layer(both.layer(clients.replayed.clone()));
                (Stack::Layers(stack), Some(credential))
            }
        };
        let placement = tenant.credentials.as_ref().map(|c| c.placement.clone());
        Ok(Self {
            name: name.to_owned(),
            metrics,
            credential,
            target: Target {
                origin: origin.to_string(),
                placement: placement.unwrap_or(http::header::AUTHORIZATION),
            },
            stack,
            deadline: Duration::from_secs(config.deadline),
        })
    }

    /// Passes a request on, and its answer back.
    pub(crate) async fn forward(&self, request: Request<Body>) -> Response<Body> {
        let began = now();
        let (outcome, response) = match strip::request(request, &self.target) {
            // Outside the stack, where it costs a timer only.
            Some(request) => match timeout(self.deadline, self.stack.send(request)).await {
                Ok(outcome) => answer::of(outcome),
                Err(_) => answer::timed_out(),
            },
            None => answer::bad_request(),
        };
        self.metrics.request(outcome, began.elapsed());
        response
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
    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        match self {
            Self::Layers(stack) => stack.clone().oneshot(request).await,
            Self::Plain(http) => Ok(http.clone().oneshot(request).await?),
        }
    }
}
