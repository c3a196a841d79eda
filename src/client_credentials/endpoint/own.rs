//! The crate's own client for the token endpoint: HTTP/1.1 and h2 over rustls, never a redirect.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock, Weak},
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;
use tokio::runtime::{Handle, Id};
use tower_service::Service;

use super::{
    identity::{Identity, Pair},
    tls::{self, NoTls, Roots},
    transport::{Certificate, Ready, Transport},
};
use crate::{
    BoxError,
    client_credentials::TokenError,
    sync::{Mutex, lock},
};

/// Made at the first use, and made again after a failure, for another certificate, and on another runtime: the runtime
/// drives the connections and closes idle ones. Without settings, all endpoints of a runtime share one.
#[derive(Clone, Default)]
pub(super) struct OwnClient {
    /// `None` for the platform's.
    roots: Option<Roots>,
    identity: Option<Arc<Identity>>,
    /// Written by the fetch that makes a client, read by every fetch.
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    /// The certificate that was read last, whatever became of it.
    seen: Option<Pair>,
    /// The client in use, and the certificate that it shows.
    made: Option<(Option<Pair>, Arc<Connections>)>,
}

impl OwnClient {
    pub(super) fn trust(&mut self, roots: Roots) {
        match &mut self.roots {
            Some(known) => known.extend(&roots),
            none => *none = Some(roots),
        }
        self.memory = Arc::default();
    }

    pub(super) fn identify(&mut self, identity: Identity) {
        self.identity = Some(Arc::new(identity));
        self.memory = Arc::default();
    }

    pub(super) async fn ready(&self) -> Result<Ready, TokenError> {
        let pair = match &self.identity {
            Some(identity) => identity.read().await.map(Some),
            None => Ok(None),
        };
        let made = match pair {
            Ok(pair) => self.made_for(pair).await,
            Err(error) => Err(error),
        };
        made.map(Ready::from).or_else(|error| self.former(error))
    }

    pub(super) async fn changed(&self) -> bool {
        let Some(identity) = &self.identity else {
            return false;
        };
        let read = identity.read().await.ok();
        read.is_some() && lock(&self.memory).seen != read
    }

    /// The certificate of now.
    pub(super) async fn certificate(&self) -> Certificate {
        if let Some(identity) = &self.identity {
            let pair = identity.read().await;
            return pair.map_or(Certificate::Unknown, |pair| pair.certificate());
        }
        Certificate::None
    }

    /// The client at hand, if it was made for `pair`, or a new one: its connections show the new certificate.
    async fn made_for(&self, pair: Option<Pair>) -> Result<Transport, TokenError> {
        {
            let mut memory = lock(&self.memory);
            memory.seen.clone_from(&pair);
            if let Some((shown, made)) = &memory.made
                && *shown == pair
                && made.runtime == Handle::current().id()
            {
                return Ok(made.transport.clone());
            }
        }
        let made = match (&self.roots, &pair) {
            (None, None) => Connections::shared(),
            (Some(roots), None) => Connections::over(Tls::trusting(roots.clone())),
            (roots, Some(pair)) => {
                let mut config = config(roots.as_ref()).await?;
                pair.enter(&mut config)?;
                Connections::with(config)
            }
        };
        let transport = made.transport.clone();
        let former = lock(&self.memory).made.replace((pair, made));
        // Closed outside the lock.
        drop(former);
        Ok(transport)
    }

    /// The client made before, where `error` keeps another from being made: a certificate may be read while somebody
    /// replaces it.
    fn former(&self, error: TokenError) -> Result<Ready, TokenError> {
        match &lock(&self.memory).made {
            Some((_, made)) => Ok(Ready {
                transport: made.transport.clone(),
                missed: Some(error),
            }),
            None => Err(error),
        }
    }
}

/// A client with its connections, and the runtime that drives them.
struct Connections {
    transport: Transport,
    runtime: Id,
}

impl Connections {
    /// With a configuration of its own.
    fn with(config: ClientConfig) -> Arc<Self> {
        Self::over(Tls {
            roots: None,
            config: Mutex::new(Some(Arc::new(with_alpn(config)))),
        })
    }

    /// The client of all endpoints without settings, which lives as long as one of them does that has used it.
    fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Mutex<HashMap<Id, Weak<Connections>>>> =
            LazyLock::new(Mutex::default);

        let runtime = Handle::current().id();
        let find = |shared: &HashMap<Id, Weak<Self>>| shared.get(&runtime).and_then(Weak::upgrade);
        let found = find(&lock(&SHARED));
        if let Some(found) = found {
            return found;
        }
        // Made outside the lock; another thread may be quicker.
        let made = Self::over(Tls::default());
        let mut shared = lock(&SHARED);
        if let Some(found) = find(&shared) {
            return found;
        }
        shared.retain(|_, client| client.strong_count() > 0);
        shared.insert(runtime, Arc::downgrade(&made));
        made
    }

    fn over(tls: Tls) -> Arc<Self> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        let connector = Connector {
            http,
            tls: Arc::new(tls),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        Arc::new(Self {
            transport: Transport::new(client),
            runtime: Handle::current().id(),
        })
    }
}

/// Connects over TCP, and over TLS for `https`. TLS is set up at the first connection that needs it: plain http on loopback
/// needs no provider and no certificates.
#[derive(Clone)]
struct Connector {
    http: HttpConnector,
    tls: Arc<Tls>,
}

/// The configuration, once it has been made.
#[derive(Default)]
struct Tls {
    /// What it is made with; `None` for the platform's.
    roots: Option<Roots>,
    config: Mutex<Option<Arc<ClientConfig>>>,
}

impl Tls {
    fn trusting(roots: Roots) -> Self {
        Self {
            roots: Some(roots),
            config: Mutex::default(),
        }
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, TokenError> {
        if let Some(config) = &*lock(&self.config) {
            return Ok(Arc::clone(config));
        }
        let made = Arc::new(with_alpn(config(self.roots.as_ref()).await?));
        // Another connection may have been quicker: sessions are resumed from one configuration.
        Ok(Arc::clone(lock(&self.config).get_or_insert(made)))
    }
}

type Tcp = <HttpConnector as Service<Uri>>::Response;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Tcp>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // The instance that was polled ready is the one that is called.
        let fresh = self.http.clone();
        let mut http = std::mem::replace(&mut self.http, fresh);
        let tls = Arc::clone(&self.tls);
        Box::pin(async move {
            if uri.scheme() != Some(&Scheme::HTTPS) {
                return Ok(MaybeHttpsStream::Http(http.call(uri).await?));
            }
            let config = tls.config().await.map_err(NoTls)?;
            HttpsConnector::from((http, config)).call(uri).await
        })
    }
}

/// With `roots` or else the platform's, and the process's provider.
async fn config(roots: Option<&Roots>) -> Result<ClientConfig, TokenError> {
    match roots {
        Some(roots) => roots.config(),
        None => {
            // First: without a provider nothing is read.
            tls::builder()?;
            tls::platform_roots().await?.config()
        }
    }
}

fn with_alpn(mut config: ClientConfig) -> ClientConfig {
    if config.alpn_protocols.is_empty() {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    config
}

/// How long an idle connection stays open. The next token is minutes away; a fetch of several requests is not.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of idle connections to one server; after a burst of first fetches of many tenants the others close.
const MAX_IDLE: usize = 8;
