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
//! The tenant is chosen by the key in the caller's `Authorization: Bearer`, never by a field that any caller can set. It
//! has its own layers, so that its failing issuer or exhausted quota affects no other tenant.
//!
//! Connections have limits and time limits of their own (`server`), because they cost something before it is known who
//! the caller is.

mod activity;
mod admin;
mod answer;
mod app;
mod body;
mod call;
mod config;
mod connections;
mod host;
mod limits;
mod location;
pub mod log;
mod metrics;
mod reload;
mod server;
mod shutdown;
mod stream;
mod strip;
mod template;
mod tenant;
mod via;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use tokio::{task::JoinSet, time::sleep};
use tower_m2m::{
    BoxError,
    client_credentials::{TokenErrorKind, TokenHandle},
};

use self::{
    app::App,
    limits::Capacity,
    server::{Server, Settings},
    tenant::Tenant,
};
pub use self::{
    config::{Config, Credentials, TenantConfig},
    limits::raise_descriptor_limit,
    metrics::record_metrics,
    reload::{Changes, FileWatch},
};

/// A running gateway. It ends when it is dropped; end it with [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Gateway {
    app: Arc<App>,
    callers: Server,
    operators: Server,
    /// What was applied last.
    config: Config,
    /// Keep tokens.
    keepers: JoinSet<()>,
    /// End the tokens of credentials that a reload has removed.
    retiring: JoinSet<()>,
    drain_delay: Duration,
    shutdown_timeout: Duration,
}

impl Gateway {
    /// Listens, and fetches the first tokens at the same time.
    ///
    /// # Errors
    ///
    /// If an address cannot be bound, or the configuration is wrong: names the file, the tenant and the key, and shows
    /// no secrets.
    pub async fn start(config: &Config) -> Result<Self, BoxError> {
        let started = Self::start_unnamed(config).await;
        started.map_err(|error| config.named(&error))
    }

    async fn start_unnamed(config: &Config) -> Result<Self, BoxError> {
        config.check()?;
        let capacity = Capacity::new(config);
        let app = Arc::new(App::new(config, capacity)?);
        let callers = Server::bind(config.key("listen"), config.listen).await?;
        let operators = Server::bind(config.key("admin_listen"), config.admin_listen).await?;

        let calls = Router::new()
            .fallback(app::forward)
            .with_state(Arc::clone(&app));
        let settings = Settings {
            max_connections: capacity.connections,
            max_connections_per_peer: capacity.connections_per_peer,
            header_timeout: Duration::from_secs(config.header_timeout),
            idle_timeout: Duration::from_secs(config.idle_timeout),
            write_timeout: Duration::from_secs(config.write_timeout),
            lifetime: None,
        };
        let callers = Server::start("callers", callers, calls, settings)?;
        let admin = admin::router(Arc::clone(&app), Arc::clone(callers.connections()));
        let settings = Settings {
            max_connections: limits::OPERATORS,
            max_connections_per_peer: limits::OPERATORS / 2,
            header_timeout: Duration::from_secs(config.header_timeout.min(5)),
            lifetime: Some(Duration::from_secs(300)),
            ..settings
        };
        let operators = Server::start("operators", operators, admin, settings)?;
        let mut gateway = Self {
            app,
            callers,
            operators,
            config: config.clone(),
            keepers: JoinSet::new(),
            retiring: JoinSet::new(),
            drain_delay: Duration::from_secs(config.drain_delay),
            shutdown_timeout: Duration::from_secs(config.shutdown_timeout),
        };
        for tenant in &gateway.app.routes().tenants {
            gateway.keep_token(tenant);
        }
        Ok(gateway)
    }

    fn keep_token(&mut self, tenant: &Tenant) {
        if let Some(credential) = &tenant.credential {
            self.keepers.spawn(keep_token(credential.tokens.clone()));
        }
    }

    /// Where callers come in.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.callers.address()
    }

    /// Where `/livez`, `/readyz` and `/metrics` are.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.operators.address()
    }
}

/// Keeps a valid token without any requests, so that `/readyz` reports what a caller would find. Costs nothing while
/// the token is valid, and requests no token before the back-off has ended. Ends once the tokens were shut down.
async fn keep_token(tokens: TokenHandle) {
    loop {
        // The layer itself reports failures.
        let failure = tokens.prefetch().await.err();
        if failure.is_some_and(|error| error.kind() == TokenErrorKind::ShutDown) {
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the gateway measures how long calls take"
)]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
