//! What all requests share: the tenants, and whose key is whose.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
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
    reload::Reloads,
    server::Peer,
    tenant::{Stacks, Tenant},
};

pub(crate) struct App {
    routes: RwLock<Arc<Routes>>,
    stacks: Stacks,
    requests: RequestLimit,
    capacity: Capacity,
    pub(crate) unknown_callers: AtomicU64,
    pub(crate) draining: AtomicBool,
    /// Whether the requests under way were given up.
    pub(crate) aborted: Arc<AtomicBool>,
    pub(crate) reloads: Reloads,
}

/// The tenants, and whose key is whose. A reload replaces it as a whole.
#[derive(Default)]
pub(crate) struct Routes {
    pub(crate) tenants: Vec<Arc<Tenant>>,
    by_key: HashMap<String, Arc<Tenant>>,
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
        let app = Self {
            routes: RwLock::default(),
            stacks: Stacks::new(config, connector),
            requests: RequestLimit::new(capacity),
            capacity,
            unknown_callers: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            aborted: Arc::default(),
            reloads: Reloads::default(),
        };
        app.apply(config)?;
        Ok(app)
    }

    pub(crate) fn routes(&self) -> Arc<Routes> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&routes)
    }

    /// Replaces the tenants by those of `config`, and returns the previous ones. Changes nothing on an error.
    pub(crate) fn apply(&self, config: &Config) -> Result<Arc<Routes>, BoxError> {
        let before = self.routes();
        let mut routes = Routes::default();
        for (name, tenant) in &config.tenants {
            if let Err(error) = self.add(&mut routes, name, tenant, config, &before) {
                self.forget_all_but(&before, &routes);
                return Err(format!("tenant {name:?}: {error}").into());
            }
        }
        let mut current = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut *current, Arc::new(routes)))
    }

    /// Forgets the credentials of `others` that none of `kept` has.
    pub(crate) fn forget_all_but(&self, kept: &Routes, others: &Routes) {
        for tenant in &others.tenants {
            let kept = kept.tenant_named(&tenant.name);
            let is_kept = kept.is_some_and(|kept| kept.shares_credential(tenant));
            if let (false, Some(credential)) = (is_kept, &tenant.credential) {
                self.stacks.forget(credential);
            }
        }
    }

    fn add(
        &self,
        routes: &mut Routes,
        name: &str,
        tenant: &TenantConfig,
        config: &Config,
        before: &Routes,
    ) -> Result<(), BoxError> {
        let keys = tenant.keys()?;
        let own = Arc::new(Tenant::new(
            name,
            tenant,
            config,
            &self.stacks,
            self.requests.another(self.capacity),
            &self.aborted,
            before.tenant_named(name).map(|before| &**before),
        )?);
        routes.tenants.push(Arc::clone(&own));
        for key in keys {
            if let Some(other) = routes.by_key.insert(key, Arc::clone(&own)) {
                let keys = tenant.key("caller_keys");
                let whose = &other.name;
                return Err(format!(
                    "has a caller key that is used twice ({keys}): tenant {whose:?} has the same key"
                )
                .into());
            }
        }
        Ok(())
    }
}

impl Routes {
    pub(crate) fn tenant_named(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.tenants.iter().find(|tenant| tenant.name == name)
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
    let tenant = app.routes().tenant(request.headers()).cloned();
    let Some(tenant) = tenant else {
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
        let routes = self.routes();
        let names: Vec<_> = routes.tenants.iter().map(|tenant| &tenant.name).collect();
        f.debug_struct("App")
            .field("tenants", &names)
            .finish_non_exhaustive()
    }
}
