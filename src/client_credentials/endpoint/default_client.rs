//! The default HTTP client for the token endpoint: HTTP/1.1 and HTTP/2 over rustls. It never follows redirects.
//!
//! hyper's pool belongs to the runtime that opened its connections: with another runtime the connections would hang
//! once the first one shuts down. So a client is bound to the runtime that created it.
//!
//! | setting | value | reason |
//! |---|---|---|
//! | redirects | never followed | they would disclose the credentials |
//! | protocols | h2, http/1.1 (ALPN) | what the server offers |
//! | idle connections | 8 for each host, closed after 10 s | a token request is rare |
//! | proxies | none | pass your own client to [`TokenEndpoint::service`](super::TokenEndpoint::service) |
//! | time limits | none of its own | the deadline of the fetch applies to connecting too |

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
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::{Handle, Id};
use tower_service::Service;

use super::{
    identity::{ClientCertificate, Identity},
    tls::{self, Roots, TlsSetupError},
    transport::{Certificate, ReadyClient, Transport},
};
use crate::{
    BoxError,
    client_credentials::{CertificateThumbprint, TokenError},
    sync::{Mutex, lock},
};

/// The default client.
///
/// Connections are created at the first use, and again after a failure, for another certificate and on another runtime,
/// because a runtime drives its connections and closes idle ones. Endpoints without TLS settings share one client per
/// runtime.
///
/// A changed certificate leads to a new client, and the old connections are closed once their requests have ended.
/// Requests in flight keep the connection that they started on.
#[derive(Clone, Default)]
pub(super) struct DefaultClient {
    /// Trusted roots. `None` means the platform's.
    roots: Option<Roots>,
    /// Client certificate, if one is configured.
    identity: Option<Arc<Identity>>,
    /// Certificate and client of the last fetch. The fetch that creates a client writes it, and every fetch reads it.
    /// The lock is never held across an `await`.
    state: Arc<Mutex<ClientState>>,
}

/// State of the default client between fetches.
///
/// `last_certificate` is what `changed` compares with, `current` is what requests use. They differ after a certificate
/// that could not be used.
#[derive(Default)]
struct ClientState {
    /// The certificate that was read last, whether or not a client could be created with it.
    last_certificate: Option<ClientCertificate>,
    /// The current client, and the certificate that it presents.
    current: Option<(Option<ClientCertificate>, Arc<Connections>)>,
}

impl DefaultClient {
    /// Adds trusted roots. The next fetch creates a new client.
    pub(super) fn trust(&mut self, roots: Roots) {
        match &mut self.roots {
            Some(known) => known.extend(&roots),
            none => *none = Some(roots),
        }
        // A new state, so that clones made earlier keep the old roots.
        self.state = Arc::default();
    }

    /// Sets the client certificate. The next fetch creates a new client.
    pub(super) fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(Arc::new(identity));
        self.state = Arc::default();
    }

    /// Returns the client for a fetch. If a certificate cannot be read or used, returns the previous client together
    /// with the error.
    ///
    /// Runs before each fetch. Without a client certificate it does no I/O.
    ///
    /// # Errors
    ///
    /// The error of the certificate or of the TLS setup, if there is no previous client.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime. Fetches always run within one.
    pub(super) async fn ready(&self) -> Result<ReadyClient, TokenError> {
        // Read for every fetch, so that a renewed certificate takes effect.
        let pair = match &self.identity {
            Some(identity) => identity.read().await.map(Some),
            None => Ok(None),
        };
        let made = match pair {
            Ok(pair) => self.client_for(pair).await,
            Err(error) => Err(error),
        };
        // The previous client may still work, with its connections and its certificate.
        made.or_else(|error| self.previous(error))
    }

    /// Returns whether a certificate is configured.
    pub(super) fn has_certificate(&self) -> bool {
        self.identity.is_some()
    }

    /// Returns the thumbprint of the current certificate. `None` if it cannot be read, or does not match its key: it may
    /// be replaced at this moment.
    pub(super) async fn usable_certificate(&self) -> Option<CertificateThumbprint> {
        let pair = self.identity.as_ref()?.read().await.ok()?;
        // No root is needed to check the pair.
        let mut config = Roots::new(RootCertStore::empty()).config().ok()?;
        pair.apply_to(&mut config).ok()?;
        pair.thumbprint()
    }

    /// Returns whether the certificate has changed since the last fetch. An unreadable certificate counts as unchanged.
    ///
    /// The files are read, but no client is created.
    pub(super) async fn changed(&self) -> bool {
        let Some(identity) = &self.identity else {
            return false;
        };
        let read = identity.read().await.ok();
        read.is_some() && lock(&self.state).last_certificate != read
    }

    /// Reads the current certificate.
    pub(super) async fn certificate(&self) -> Certificate {
        if let Some(identity) = &self.identity {
            let pair = identity.read().await;
            return pair.map_or(Certificate::Unknown, |pair| pair.certificate());
        }
        Certificate::None
    }

    /// Returns the current client if it presents `pair` and belongs to this runtime. Otherwise creates a new one, whose
    /// connections present `pair`.
    ///
    /// Two concurrent calls may both create a client; the later one stays, and both work.
    ///
    /// # Errors
    ///
    /// A configuration error, if TLS cannot be configured, or the error of an unusable certificate.
    ///
    /// # Cancel safety
    ///
    /// Dropped while the roots are read, it has recorded the certificate as seen, and the next fetch creates the
    /// client.
    async fn client_for(&self, pair: Option<ClientCertificate>) -> Result<ReadyClient, TokenError> {
        let certificate = pair.as_ref().and_then(ClientCertificate::thumbprint);
        let ready = |transport: &Transport| ReadyClient {
            certificate,
            ..transport.clone().into()
        };
        {
            let mut memory = lock(&self.state);
            // Recorded before the client is created: a certificate that cannot be used counts as seen, so that only
            // another change ends the backoff.
            memory.last_certificate.clone_from(&pair);
            if let Some((shown, made)) = &memory.current
                && *shown == pair
                && made.runtime == Handle::current().id()
            {
                return Ok(ready(&made.transport));
            }
        }
        let made = match (&self.roots, &pair) {
            (None, None) => Connections::shared(),
            (Some(roots), None) => Connections::with_tls(Tls::trusting(roots.clone())),
            (roots, Some(pair)) => {
                let mut config = config(roots.as_ref()).await?;
                pair.apply_to(&mut config)?;
                Connections::with(config)
            }
        };
        let ready = ready(&made.transport);
        let former = lock(&self.state).current.replace((pair, made));
        // The old connections are closed after the lock is released.
        drop(former);
        Ok(ready)
    }

    /// Returns the previous client if there is one, and `error` otherwise. A certificate may be read while it is being
    /// replaced.
    ///
    /// The previous client presents the certificate that it was created with, for new connections too.
    fn previous(&self, error: TokenError) -> Result<ReadyClient, TokenError> {
        match &lock(&self.state).current {
            Some((pair, made)) => Ok(ReadyClient {
                transport: made.transport.clone(),
                stale_reason: Some(error),
                certificate: pair.as_ref().and_then(ClientCertificate::thumbprint),
            }),
            None => Err(error),
        }
    }
}

/// A client with its connections.
///
/// Dropping the last reference closes the idle connections.
struct Connections {
    /// The client, type-erased.
    transport: Transport,
    /// The runtime that drives the connections.
    runtime: Id,
}

impl Connections {
    /// Creates a client with a TLS configuration of its own.
    fn with(config: ClientConfig) -> Arc<Self> {
        Self::with_tls(Tls {
            roots: None,
            config: Mutex::new(Some(Arc::new(with_alpn(config)))),
        })
    }

    /// Returns the shared client of all endpoints without TLS settings on this runtime. It lives as long as one
    /// endpoint that has used it.
    ///
    /// The map holds weak references, so that a runtime that has shut down keeps no connections.
    ///
    /// Many endpoints, such as those of many tenants, then share connections and TLS sessions.
    fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Mutex<HashMap<Id, Weak<Connections>>>> =
            LazyLock::new(Mutex::default);

        let runtime = Handle::current().id();
        let find = |shared: &HashMap<Id, Weak<Self>>| shared.get(&runtime).and_then(Weak::upgrade);
        // A separate statement, so that the lock is released before the client is created.
        let found = find(&lock(&SHARED));
        if let Some(found) = found {
            return found;
        }
        // Created outside the lock, so another thread may have inserted one in the meantime.
        let made = Self::with_tls(Tls::default());
        let mut shared = lock(&SHARED);
        if let Some(found) = find(&shared) {
            return found;
        }
        // Remove entries of clients that no endpoint uses any more.
        shared.retain(|_, client| client.strong_count() > 0);
        shared.insert(runtime, Arc::downgrade(&made));
        made
    }

    /// Creates a client over a TLS setup.
    fn with_tls(tls: Tls) -> Arc<Self> {
        let mut http = HttpConnector::new();
        // The connector must also accept https URLs: `Connector` adds TLS.
        http.enforce_http(false);
        // The pool clones the connector, so the TLS configuration is shared.
        let connector = Connector {
            http,
            tls: Arc::new(tls),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .build(connector);
        Arc::new(Self {
            transport: Transport::new(client),
            runtime: Handle::current().id(),
        })
    }
}

/// A connector for TCP, with TLS for `https`.
///
/// TLS is configured at the first connection that needs it. Plain http on loopback needs neither a crypto provider nor
/// root certificates.
///
/// Errors of the TLS setup are wrapped, so that they come out of the HTTP client as the error of the fetch, with their
/// remedy.
#[derive(Clone)]
struct Connector {
    /// Connects over TCP.
    http: HttpConnector,
    /// TLS configuration, shared by all clones.
    tls: Arc<Tls>,
}

/// A TLS configuration that is created at the first use.
#[derive(Default)]
struct Tls {
    /// Trusted roots. `None` means the platform's.
    roots: Option<Roots>,
    /// The configuration, once it has been created. The lock is never held across an `await`.
    config: Mutex<Option<Arc<ClientConfig>>>,
}

impl Tls {
    /// Creates a setup that trusts `roots`.
    fn trusting(roots: Roots) -> Self {
        Self {
            roots: Some(roots),
            config: Mutex::default(),
        }
    }

    /// Returns the configuration, and creates it at the first call.
    ///
    /// Reads no file while a lock is held. A failed setup is not cached: the next connection tries again.
    async fn config(&self) -> Result<Arc<ClientConfig>, TokenError> {
        if let Some(config) = &*lock(&self.config) {
            return Ok(Arc::clone(config));
        }
        let made = Arc::new(with_alpn(config(self.roots.as_ref()).await?));
        // Keep the configuration of a concurrent call if it was first: TLS sessions can be resumed only within one
        // configuration.
        Ok(Arc::clone(lock(&self.config).get_or_insert(made)))
    }
}

/// A TCP connection.
type Tcp = <HttpConnector as Service<Uri>>::Response;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Tcp>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // `call` must use the instance that `poll_ready` made ready, and a clone is not ready.
        let fresh = self.http.clone();
        let mut http = std::mem::replace(&mut self.http, fresh);
        let tls = Arc::clone(&self.tls);
        Box::pin(async move {
            // The endpoint has checked that plain http is allowed.
            if uri.scheme() != Some(&Scheme::HTTPS) {
                return Ok(MaybeHttpsStream::Http(http.call(uri).await?));
            }
            let config = tls.config().await.map_err(TlsSetupError)?;
            HttpsConnector::from((http, config)).call(uri).await
        })
    }
}

/// Creates a TLS configuration with `roots`, or else the platform's, and the process's crypto provider.
///
/// The platform's roots are read once for each process. A certificate that is installed later is not seen before a
/// restart.
async fn config(roots: Option<&Roots>) -> Result<ClientConfig, TokenError> {
    match roots {
        Some(roots) => roots.config(),
        None => {
            // Checked first, so that no files are read without a provider.
            tls::builder()?;
            tls::platform_roots().await?.config()
        }
    }
}

/// Sets the ALPN protocols, h2 before http/1.1, unless some are set.
fn with_alpn(mut config: ClientConfig) -> ClientConfig {
    if config.alpn_protocols.is_empty() {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    config
}

/// Interval after which an idle connection is closed. Long enough for the requests of one fetch; the next fetch is
/// minutes away.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of idle connections to one server. A burst of first fetches of many tenants may open more.
const MAX_IDLE_CONNECTIONS: usize = 8;
