//! What all requests share: the tenants, and whose key is whose.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, header::AUTHORIZATION};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use tower_m2m::BoxError;

use crate::{
    answer,
    config::{Config, TenantConfig},
    limits::{Capacity, RequestLimit},
    server::Peer,
    tenant::{Stacks, Tenant},
};

pub(crate) struct App {
    pub(crate) tenants: Vec<Arc<Tenant>>,
    by_key: HashMap<String, Arc<Tenant>>,
    pub(crate) unknown_callers: AtomicU64,
    pub(crate) draining: AtomicBool,
    /// Whether the requests under way were given up.
    pub(crate) aborted: Arc<AtomicBool>,
}

impl App {
    pub(crate) fn new(config: &Config, capacity: Capacity) -> Result<Self, BoxError> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(Duration::from_secs(config.connect_timeout)));
        http.set_keepalive(Some(Duration::from_secs(60)));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| format!("no root certificates: {error}"))?
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        let stacks = Stacks::new(config, connector)?;
        let mut app = Self {
            tenants: Vec::new(),
            by_key: HashMap::new(),
            unknown_callers: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            aborted: Arc::default(),
        };
        let requests = RequestLimit::new(capacity);
        for (name, tenant) in &config.tenants {
            let requests = requests.another(capacity);
            app.add(name, tenant, config, &stacks, requests)
                .map_err(|error| format!("tenant {name:?}: {error}"))?;
        }
        Ok(app)
    }

    fn add(
        &mut self,
        name: &str,
        tenant: &TenantConfig,
        config: &Config,
        stacks: &Stacks,
        requests: RequestLimit,
    ) -> Result<(), BoxError> {
        let keys = tenant.keys()?;
        let own = Tenant::new(name, tenant, config, stacks, requests, &self.aborted)?;
        let own = Arc::new(own);
        for key in keys {
            if let Some(other) = self.by_key.insert(key, Arc::clone(&own)) {
                let keys = tenant.key("caller_keys");
                let whose = &other.name;
                return Err(format!(
                    "has a caller key that is used twice ({keys}): tenant {whose:?} has the same key"
                )
                .into());
            }
        }
        self.tenants.push(own);
        Ok(())
    }

    /// Whose request it is. `None` if there are several keys.
    fn tenant(&self, headers: &HeaderMap) -> Option<&Arc<Tenant>> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (value, None) = (values.next()?, values.next()) else {
            return None;
        };
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        let known = scheme.eq_ignore_ascii_case("bearer");
        self.by_key.get(key.trim()).filter(|_| known)
    }
}

pub(crate) async fn forward(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let peer = request.extensions().get::<Peer>();
    let Some(tenant) = app.tenant(request.headers()) else {
        app.unknown_callers.fetch_add(1, Relaxed);
        if let Some(peer) = peer {
            peer.unknown();
            tracing::info!(peer = %peer.address, "unknown caller");
        }
        return answer::unknown_caller();
    };
    if let Some(peer) = peer {
        peer.known();
    }
    tenant.forward(request).await
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.tenants.iter().map(|tenant| &tenant.name).collect();
        f.debug_struct("App")
            .field("tenants", &names)
            .finish_non_exhaustive()
    }
}
