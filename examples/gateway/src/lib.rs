//! A gateway that calls limited upstreams for its callers.
//!
//! ```text
//! caller ─▶ who is it? ─ unknown ─▶ 401
//!              │ tenant
//!              ├─ the caller's credentials and hop-by-hop fields are removed
//!              ├─ the tenant's own token and quota: tower-m2m
//!              └─▶ upstream ─▶ answer, streamed; what concerns our credential or quota becomes 502 or 503
//! ```
//!
//! The tenant is chosen by the key in the caller's `Authorization: Bearer`, never by a field that anybody can write. It
//! has its own layers, so that its failing issuer or used-up quota is nobody else's.

mod admin;
mod answer;
mod config;
mod metrics;
mod strip;
mod tenant;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    serve::ListenerExt,
};
use http::{HeaderMap, header::AUTHORIZATION};
use hyper_rustls::HttpsConnectorBuilder;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tower_m2m::BoxError;

use self::tenant::{Stacks, Tenant};
pub use self::{
    config::{Config, Credentials, TenantConfig},
    metrics::record_metrics,
};

/// A running gateway. It ends when it is dropped; end it with [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    admin_address: SocketAddr,
    app: Arc<App>,
    /// `true` once connections are refused.
    stop: watch::Sender<bool>,
    calls: JoinHandle<io::Result<()>>,
    /// The other listener, and who keeps tokens.
    others: JoinSet<()>,
    drain_delay: Duration,
    shutdown_timeout: Duration,
}

/// What all requests share.
struct App {
    tenants: Vec<Arc<Tenant>>,
    by_key: HashMap<String, Arc<Tenant>>,
    unknown_callers: AtomicU64,
    draining: AtomicBool,
}

impl Gateway {
    /// Listens, and gets the first tokens meanwhile.
    ///
    /// # Errors
    ///
    /// If an address cannot be bound, or the configuration is wrong: names the tenant, and shows no secrets.
    pub async fn start(config: &Config) -> Result<Self, BoxError> {
        let app = Arc::new(App::new(config)?);
        let listener = TcpListener::bind(config.listen).await?;
        let admin_listener = TcpListener::bind(config.admin_listen).await?;
        let (address, admin_address) = (listener.local_addr()?, admin_listener.local_addr()?);
        let (stop, mut stopped) = watch::channel(false);

        let calls = Router::new().fallback(forward).with_state(Arc::clone(&app));
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let calls = axum::serve(listener, calls).with_graceful_shutdown(async move {
            // An error means that the gateway was dropped.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        });
        let mut others = JoinSet::new();
        let admin = admin::router(Arc::clone(&app));
        others.spawn(async move {
            if let Err(error) = axum::serve(admin_listener, admin).await {
                tracing::error!(%error, "the admin listener failed");
            }
        });
        for tenant in &app.tenants {
            others.spawn(keep_token(Arc::clone(tenant)));
        }
        Ok(Self {
            address,
            admin_address,
            app,
            stop,
            calls: tokio::spawn(calls.into_future()),
            others,
            drain_delay: Duration::from_secs(config.drain_delay),
            shutdown_timeout: Duration::from_secs(config.shutdown_timeout),
        })
    }

    /// Where callers come in.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where `/livez`, `/readyz` and `/metrics` are.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Says no at `/readyz`, then refuses connections, waits for the requests under way, and ends the work on tokens.
    pub async fn shutdown(mut self) {
        self.app.draining.store(true, Relaxed);
        sleep(self.drain_delay).await;
        self.stop.send_replace(true);
        if timeout(self.shutdown_timeout, &mut self.calls)
            .await
            .is_err()
        {
            tracing::warn!("requests under way were given up");
        }
        for credential in self
            .app
            .tenants
            .iter()
            .filter_map(|t| t.credential.as_ref())
        {
            credential.tokens.shutdown().await;
        }
        self.others.shutdown().await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.calls.abort();
    }
}

impl App {
    fn new(config: &Config) -> Result<Self, BoxError> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_all_versions()
            .build();
        let stacks = Stacks::new(config, connector)?;
        let mut app = Self {
            tenants: Vec::new(),
            by_key: HashMap::new(),
            unknown_callers: AtomicU64::new(0),
            draining: AtomicBool::new(false),
        };
        for (name, tenant) in &config.tenants {
            app.add(name, tenant, config, &stacks)
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
    ) -> Result<(), BoxError> {
        // It becomes a label.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !name.chars().all(plain) {
            return Err("its name may only have letters, digits, `-`, `_` and `.`".into());
        }
        let keys = tenant.keys()?;
        let tenant = Arc::new(Tenant::new(name, tenant, config, stacks)?);
        for key in keys {
            if self.by_key.insert(key, Arc::clone(&tenant)).is_some() {
                return Err("has a caller key that is used twice".into());
            }
        }
        self.tenants.push(tenant);
        Ok(())
    }

    /// Whose request it is. Nobody's, if there are several keys.
    fn tenant(&self, headers: &HeaderMap) -> Option<&Tenant> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (value, None) = (values.next()?, values.next()) else {
            return None;
        };
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        let known = scheme.eq_ignore_ascii_case("bearer");
        self.by_key
            .get(key.trim())
            .filter(|_| known)
            .map(|tenant| &**tenant)
    }
}

async fn forward(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let Some(tenant) = app.tenant(request.headers()) else {
        app.unknown_callers.fetch_add(1, Relaxed);
        return answer::unknown_caller();
    };
    tenant.forward(request).await
}

/// Has a valid token ready although nobody calls, so that `/readyz` says what a caller would find. Costs nothing while
/// the token is valid, and asks no earlier than the back-off allows.
async fn keep_token(tenant: Arc<Tenant>) {
    let Some(credential) = &tenant.credential else {
        return;
    };
    loop {
        // The layer itself tells about failures.
        let _ = credential.tokens.warm().await;
        sleep(Duration::from_secs(1)).await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the gateway measures how long calls take"
)]
fn now() -> Instant {
    Instant::now()
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.tenants.iter().map(|tenant| &tenant.name).collect();
        f.debug_struct("App")
            .field("tenants", &names)
            .finish_non_exhaustive()
    }
}
