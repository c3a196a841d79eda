//! Connections of the default client: TCP, directly or through a proxy, and TLS for `https`.
//!
//! ```text
//! uri ─▶ ProxyRules::choose ─┬─ none ─▶ TCP ────────────────────────────▶ TLS if https ─▶ stream
//!                            └─ proxy ─▶ TCP ─▶ TLS if the proxy's URL is https ─▶ CONNECT ─▶ TLS if https ─▶ stream
//! ```
//!
//! The proxy's own TLS has neither the client certificate nor h2.

use std::{
    env,
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Uri, uri::Scheme};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{HttpConnector, proxy::Tunnel};
use rustls::ClientConfig;
use tower::ServiceExt;
use tower_service::Service;

use super::{
    certificate,
    proxy::{ChosenProxy, Proxy, ProxyRules},
    tls::{self, Roots, SetupError},
};
use crate::{
    BoxError,
    client_credentials::{TokenError, TokenErrorKind},
    sync::{Mutex, lock},
};

/// A connector for TCP, with TLS for `https`.
///
/// TLS is configured at the first connection that needs it. Plain http on loopback needs neither a crypto provider nor
/// root certificates.
///
/// Errors of the setup are wrapped, so that they come out of the HTTP client as the error of the fetch, with their
/// remedy.
#[derive(Clone)]
pub(crate) struct Connector {
    /// Connects over TCP.
    http: HttpConnector,
    /// What all clones share.
    shared: Arc<Shared>,
}

/// What all clones of a connector share.
struct Shared {
    /// TLS for `https`.
    tls: Tls,
    /// Which URLs are reached through a proxy, or why that is unknown.
    proxies: Result<ProxyRules, TokenError>,
    /// TLS for proxies, which present no client certificate.
    proxy_tls: Tls,
}

impl Connector {
    /// Creates a connector with the platform's root certificates and the proxies of the environment.
    #[cfg(feature = "client")]
    pub(crate) fn of_environment() -> Self {
        Self::new(None, None, &Proxy::default())
    }

    /// Creates a connector. Reads the environment, if `proxy` says so.
    ///
    /// Trusts `roots`, or else the platform's. `config` replaces the configuration for the destination, but not for
    /// proxies.
    pub(super) fn new(roots: Option<&Roots>, config: Option<ClientConfig>, proxy: &Proxy) -> Self {
        let mut http = HttpConnector::new();
        // It must also accept https URLs: TLS is added here.
        http.enforce_http(false);
        // A value that is not UTF-8 is not a URL either. The error names the variable.
        let var = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let shared = Shared {
            tls: Tls {
                roots: roots.cloned(),
                alpn: &["h2", "http/1.1"],
                config: Mutex::new(config.map(|config| with_alpn(config, &["h2", "http/1.1"]))),
            },
            proxies: proxy.rules(var),
            proxy_tls: Tls {
                roots: roots.cloned(),
                // A tunnel is opened over HTTP/1.1.
                alpn: &["http/1.1"],
                config: Mutex::default(),
            },
        };
        Self {
            http,
            // The pool clones the connector, so that the TLS configuration is shared.
            shared: Arc::new(shared),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<MaybeHttpsStream<Tcp>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // `call` must use the instance that `poll_ready` made ready, and a clone is not ready.
        let fresh = self.http.clone();
        let http = std::mem::replace(&mut self.http, fresh);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let proxies = shared.proxies.as_ref();
            let proxy = proxies.map_err(|error| SetupError(error.clone()))?;
            let mut route = Route {
                http,
                proxy: proxy.choose(&uri).map(Arc::new),
                shared: Arc::clone(&shared),
            };
            // Without TLS, no configuration is made.
            if uri.scheme() != Some(&Scheme::HTTPS) {
                return Ok(MaybeHttpsStream::Http(route.call(uri).await?));
            }
            let config = shared.tls.config().await.map_err(SetupError)?;
            HttpsConnector::from((route, config)).call(uri).await
        })
    }
}

/// The way to one destination: direct, or through a proxy.
struct Route {
    /// Connects over TCP, and is ready.
    http: HttpConnector,
    /// The proxy.
    proxy: Option<Arc<ChosenProxy>>,
    /// TLS for the proxy.
    shared: Arc<Shared>,
}

impl Service<Uri> for Route {
    type Response = MaybeHttpsStream<Tcp>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let mut http = self.http.clone();
        std::mem::swap(&mut http, &mut self.http);
        let Some(proxy) = self.proxy.clone() else {
            return Box::pin(async move {
                let stream = http.call(uri).await?;
                Ok(MaybeHttpsStream::Http(stream))
            });
        };
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let opened = open_tunnel(http, &proxy, &shared, with_port(uri)).await;
            opened.map_err(|error| BoxError::from(SetupError(error)))
        })
    }
}

/// Opens a tunnel to `uri` through `proxy`.
///
/// # Errors
///
/// The proxy cannot be reached or refuses the tunnel. The error names the setting, and neither the proxy's URL nor its
/// credentials.
async fn open_tunnel(
    http: HttpConnector,
    proxy: &ChosenProxy,
    shared: &Shared,
    uri: Uri,
) -> Result<MaybeHttpsStream<Tcp>, TokenError> {
    let at = proxy.intercept.uri().clone();
    let auth = proxy.intercept.basic_auth().cloned();
    let opened = if at.scheme() == Some(&Scheme::HTTPS) {
        let config = shared.proxy_tls.config().await?;
        let mut tunnel = Tunnel::new(at, HttpsConnector::from((http, config)));
        if let Some(auth) = auth {
            tunnel = tunnel.with_auth(auth);
        }
        tunnel.oneshot(uri).await
    } else {
        let mut tunnel = Tunnel::new(at, http);
        if let Some(auth) = auth {
            tunnel = tunnel.with_auth(auth);
        }
        tunnel.oneshot(uri).await.map(MaybeHttpsStream::Http)
    };
    opened.map_err(|error| refused(error, proxy.setting))
}

/// Converts the error of a tunnel. Its type is private, so that its text decides; if that changes, the error becomes less
/// specific.
fn refused(error: impl Error + Send + Sync + 'static, setting: &str) -> TokenError {
    let text = error.to_string();
    if text.contains("authorization required") {
        return TokenError::configuration(format!(
            "was not sent: the proxy in {setting} requires credentials, or rejects those in its URL (407)"
        ));
    }
    if let Some(what) = certificate::problem_of_proxy(&error) {
        let what = format!("could not be sent through the proxy in {setting}: {what}");
        return TokenError::new(TokenErrorKind::Certificate, false, what).with_source(error);
    }
    let what = match text.contains("underlying connection") {
        true => format!("the proxy in {setting} cannot be reached; check its URL"),
        false => format!(
            "the proxy in {setting} refused the connection to the token endpoint, or broke it; check that it allows the \
             host and the port, or exempt the host with `NO_PROXY`"
        ),
    };
    let what = format!("could not be sent: {what}");
    TokenError::new(TokenErrorKind::Transport, true, what).with_source(error)
}

/// Returns `uri` with an explicit port, which a tunnel needs. The default port of a tunnel is that of https.
fn with_port(uri: Uri) -> Uri {
    if uri.port().is_some() || uri.scheme() == Some(&Scheme::HTTPS) {
        return uri;
    }
    let Some(host) = uri.host().map(str::to_owned) else {
        return uri;
    };
    let mut parts = uri.clone().into_parts();
    parts.authority = format!("{host}:80").parse().ok();
    Uri::from_parts(parts).unwrap_or(uri)
}

/// A TCP connection.
type Tcp = <HttpConnector as Service<Uri>>::Response;

/// A TLS configuration that is created at the first use.
struct Tls {
    /// Trusted roots. `None` means the platform's.
    roots: Option<Roots>,
    /// Protocols to offer.
    alpn: &'static [&'static str],
    /// The configuration, once it has been created. The lock is never held across an `await`.
    config: Mutex<Option<Arc<ClientConfig>>>,
}

impl Tls {
    /// Returns the configuration, and creates it at the first call.
    ///
    /// Reads no file while a lock is held. A failed setup is not cached: the next connection tries again.
    async fn config(&self) -> Result<Arc<ClientConfig>, TokenError> {
        if let Some(config) = &*lock(&self.config) {
            return Ok(Arc::clone(config));
        }
        let made = with_alpn(config(self.roots.as_ref()).await?, self.alpn);
        // Keep the configuration of a concurrent call if it was first: TLS sessions can be resumed only within one
        // configuration.
        Ok(Arc::clone(lock(&self.config).get_or_insert(made)))
    }
}

/// Creates a TLS configuration with `roots`, or else the platform's, and the process's crypto provider.
///
/// The platform's roots are read once for each process. A certificate that is installed later is not seen before a
/// restart.
pub(super) async fn config(roots: Option<&Roots>) -> Result<ClientConfig, TokenError> {
    match roots {
        Some(roots) => roots.config(),
        None => {
            // Checked first, so that no files are read without a provider.
            tls::builder()?;
            tls::platform_roots().await?.config()
        }
    }
}

/// Sets the ALPN protocols, unless some are set.
fn with_alpn(mut config: ClientConfig, protocols: &[&str]) -> Arc<ClientConfig> {
    if config.alpn_protocols.is_empty() {
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
    }
    Arc::new(config)
}
