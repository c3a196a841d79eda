//! The builder of an issuer.

use std::{
    fmt, io,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;

use super::{
    super::{
        dpop::DpopChecks,
        script::{Record, Script},
        serve::{self, Server},
        time::Epoch,
        token_registry::TokenRegistry,
    },
    AcceptedAuth, Answer, Issuer, IssuerStats,
    service::{Endpoint, IssuerService, State},
};

/// A builder of an [`Issuer`].
///
/// At least one [client](Self::client) is needed: without one, every request is rejected. All other settings have defaults.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::test_util::{AcceptedAuth, Issuer};
///
/// let issuer = Issuer::builder()
///     .client("id", "secret")
///     .path("/realms/test/protocol/openid-connect/token")
///     .accept([AcceptedAuth::Post])
///     .expires_in(Duration::from_secs(60))
///     .in_process(); // or `.start().await?`
///
/// assert!(issuer.token_url().ends_with("/openid-connect/token"));
/// ```
#[must_use = "nothing listens before `start`"]
pub struct IssuerBuilder {
    /// Ids and secrets of the clients.
    clients: Vec<(String, String)>,
    /// The token endpoint that `path` and `accept` configure.
    default_endpoint: Endpoint,
    /// The other token endpoints.
    more_endpoints: Vec<Endpoint>,
    /// Lifetime of a token.
    expires_in: Duration,
    /// Duration of every response.
    latency: Duration,
    /// Format of a token response.
    answer: Answer,
    /// Returns the refresh window for a lifetime.
    window: fn(Duration) -> Duration,
    /// Path of the issuer identifier.
    identifier_path: String,
    /// Path of the revocation endpoint.
    revocation_path: String,
    /// Members of the metadata that replace the default ones.
    metadata: Vec<(String, Value)>,
    /// Whether a token request needs a proof.
    dpop_bound_access_tokens: bool,
}

impl IssuerBuilder {
    /// Creates a builder with all defaults.
    pub(super) fn new() -> Self {
        Self {
            clients: Vec::new(),
            default_endpoint: Endpoint {
                path: "/oauth/token".to_owned(),
                accepted: vec![
                    // All methods that a client with a secret can use.
                    AcceptedAuth::BasicEncoded,
                    AcceptedAuth::BasicRaw,
                    AcceptedAuth::Post,
                ],
            },
            more_endpoints: Vec::new(),
            expires_in: Duration::from_secs(300),
            latency: Duration::ZERO,
            answer: Answer::default(),
            window: default_window,
            identifier_path: String::new(),
            revocation_path: "/oauth/revoke".to_owned(),
            metadata: Vec::new(),
            dpop_bound_access_tokens: false,
        }
    }

    /// Adds a client. Default: none, so that every request is rejected.
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.clients.push((id.into(), secret.into()));
        self
    }

    /// Sets the path of the token endpoint. Default: `/oauth/token`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.default_endpoint.path = path.into();
        self
    }

    /// Sets the authentication methods of the token endpoint. Default: all of them.
    ///
    /// A secret of letters, digits, `-`, `.` and `_` is the same in both forms of Basic.
    pub fn accept(mut self, methods: impl IntoIterator<Item = AcceptedAuth>) -> Self {
        self.default_endpoint.accepted = methods.into_iter().collect();
        self
    }

    /// Adds another token endpoint, with its own authentication methods. Default: none.
    pub fn endpoint(
        mut self,
        path: impl Into<String>,
        methods: impl IntoIterator<Item = AcceptedAuth>,
    ) -> Self {
        self.more_endpoints.push(Endpoint {
            path: path.into(),
            accepted: methods.into_iter().collect(),
        });
        self
    }

    /// Sets the lifetime of a token. Default: 300 s. Responses contain it in whole seconds, rounded down.
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.expires_in = lifetime;
        self
    }

    /// Sets how long every response takes. The token is issued, and its lifetime begins, before that. Default: zero.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Sets the format of a successful response. Default: [`Answer::rfc6749`].
    pub fn answer(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// Sets the last part of a lifetime, in which fetching a new token is not counted as redundant.
    /// Default: 35 % of the lifetime, at most 60 s.
    ///
    /// Make it at least as long as the client's own refresh window: a client that refreshes earlier issues redundant
    /// tokens.
    pub fn window(mut self, window: fn(Duration) -> Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets the path of the issuer identifier, such as `/realms/m2m`. Default: empty, so that the identifier is the origin.
    ///
    /// The metadata is at the three places that follow from it: that of RFC 8414 §3.1, and `openid-configuration` before and
    /// after the path.
    pub fn identifier_path(mut self, path: impl Into<String>) -> Self {
        self.identifier_path = path.into();
        self
    }

    /// Replaces a member of the metadata (RFC 8414 §2), or adds one; `null` removes it. Default: `issuer`, `token_endpoint`,
    /// `revocation_endpoint`, `grant_types_supported`, the authentication methods of both endpoints, and
    /// `dpop_signing_alg_values_supported`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::test_util::Issuer;
    ///
    /// // An issuer that does not announce how clients authenticate, and cannot revoke.
    /// let issuer = Issuer::builder()
    ///     .client("id", "secret")
    ///     .metadata("token_endpoint_auth_methods_supported", serde_json::Value::Null)
    ///     .metadata("revocation_endpoint", serde_json::Value::Null)
    ///     .in_process();
    /// # drop(issuer);
    /// ```
    pub fn metadata(mut self, member: impl Into<String>, value: Value) -> Self {
        self.metadata.push((member.into(), value));
        self
    }

    /// Sets the path of the revocation endpoint (RFC 7009). Default: `/oauth/revoke`.
    ///
    /// It accepts the authentication methods of the token endpoint.
    pub fn revocation_path(mut self, path: impl Into<String>) -> Self {
        self.revocation_path = path.into();
        self
    }

    /// Sets whether every token is bound to a key (RFC 9449 §5.2): a token request without a proof then gets
    /// `invalid_dpop_proof`. Default: `false`, so that only the token of a request with a proof is bound.
    pub fn dpop_bound_access_tokens(mut self, bound: bool) -> Self {
        self.dpop_bound_access_tokens = bound;
        self
    }

    /// Starts the issuer on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// Returns an error if no port can be bound.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime with I/O enabled.
    pub async fn start(self) -> io::Result<Issuer> {
        let (listener, address) = serve::bind().await?;
        // The port is known before the issuer is built, because its origin contains it.
        let mut issuer = self.build(format!("http://{address}"));
        issuer.server = Some(Server::start(listener, issuer.service()));
        Ok(issuer)
    }

    /// Builds an issuer without a socket, for tests that only use [`Issuer::service`]. Its origin is
    /// `https://issuer.test`.
    #[must_use]
    pub fn in_process(self) -> Issuer {
        self.build("https://issuer.test".to_owned())
    }

    /// Builds the issuer with this origin, without a socket.
    fn build(self, origin: String) -> Issuer {
        let mut endpoints = vec![self.default_endpoint];
        endpoints.extend(self.more_endpoints);
        let state = State {
            origin,
            endpoints,
            clients: Mutex::new(self.clients),
            expires_in: Mutex::new(self.expires_in),
            latency: self.latency,
            answer: self.answer,
            window: self.window,
            identifier_path: self.identifier_path,
            revocation_path: self.revocation_path,
            metadata: self.metadata,
            dpop_bound_access_tokens: self.dpop_bound_access_tokens,
            dpop: DpopChecks::default(),
            epoch: Epoch::start(None),
            tokens: TokenRegistry::new(),
            script: Script::new(),
            stats: Mutex::new(IssuerStats::default()),
            requests: Record::new(),
        };
        Issuer {
            service: IssuerService(Arc::new(state)),
            server: None,
        }
    }
}

impl fmt::Debug for IssuerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerBuilder")
            .field("expires_in", &self.expires_in)
            .field("latency", &self.latency)
            .finish_non_exhaustive()
    }
}

/// Returns the default refresh window: 35 % of the lifetime, at most 60 s.
fn default_window(lifetime: Duration) -> Duration {
    lifetime.mul_f64(0.35).min(Duration::from_secs(60))
}
