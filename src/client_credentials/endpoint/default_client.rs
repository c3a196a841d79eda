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
//! | proxies | those of the environment | [`TokenEndpoint::proxy`](super::TokenEndpoint::proxy) changes that |
//! | time limits | none of its own | the deadline of the fetch applies to connecting too |

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};

use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::RootCertStore;
use tokio::runtime::{Handle, Id};

use super::{
    connector::{Connector, config},
    identity::{ClientCertificate, Identity},
    proxy::Proxy,
    tls::Roots,
    transport::{Certificate, ReadyClient, Transport},
};
use crate::{
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
    /// The proxy. Default: that of the environment.
    proxy: Proxy,
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

    /// Sets the proxy. The next fetch creates a new client.
    pub(super) fn set_proxy(&mut self, proxy: Proxy) {
        self.proxy = proxy;
        self.state = Arc::default();
    }

    /// Checks the proxy.
    ///
    /// # Errors
    ///
    /// A configuration error, if the URL of its setting is not usable. The environment is not read.
    pub(super) fn validate(&self) -> Result<(), TokenError> {
        self.proxy.validate()
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
        let roots = self.roots.as_ref();
        let made = match &pair {
            None if roots.is_none() && self.proxy.is_default() => Connections::shared(),
            None => Connections::with(Connector::new(roots, None, &self.proxy)),
            Some(pair) => {
                let mut config = config(roots).await?;
                pair.apply_to(&mut config)?;
                Connections::with(Connector::new(roots, Some(config), &self.proxy))
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
        let made = Self::with(Connector::new(None, None, &Proxy::default()));
        let mut shared = lock(&SHARED);
        if let Some(found) = find(&shared) {
            return found;
        }
        // Remove entries of clients that no endpoint uses any more.
        shared.retain(|_, client| client.strong_count() > 0);
        shared.insert(runtime, Arc::downgrade(&made));
        made
    }

    /// Creates a client with a connector.
    fn with(connector: Connector) -> Arc<Self> {
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

/// Interval after which an idle connection is closed. Long enough for the requests of one fetch; the next fetch is
/// minutes away.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of idle connections to one server. A burst of first fetches of many tenants may open more.
const MAX_IDLE_CONNECTIONS: usize = 8;
