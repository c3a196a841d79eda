//! The builder of a resource server.

use std::{
    fmt, io,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::Full;

use super::{
    super::{
        dpop::DpopChecks,
        quota::Quota,
        script::{Record, Script},
        serve::{self, Server},
        time::Epoch,
        token_registry::TokenRegistry,
    },
    Api, ApiService, Dialect,
    quotas::{Quotas, Scope},
    resource::ProtectedResource,
    service::{Admission, Counts, Route, State},
};

/// A builder of an [`Api`].
///
/// Without any setting, the server accepts every request and responds with 200. All settings have defaults.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use http::{HeaderName, Method, Response};
/// use tower_m2m::test_util::{Api, Dialect, Quota};
///
/// let api = Api::builder()
///     .api_key(HeaderName::from_static("x-api-key"), "key")
///     .quota(Quota::fixed_window(300, Duration::from_secs(60)))
///     .dialect(Dialect::Didit)
///     .latency(Duration::from_millis(40))
///     .route(Method::GET, "/orders/*", |_| Response::new(r#"{"state":"sent"}"#.into()))
///     .in_process(); // or `.start().await?`
/// # drop(api);
/// ```
#[must_use = "nothing listens before `start`"]
pub struct ApiBuilder {
    /// Accepted credentials.
    admission: Admission,
    /// Path and authorization server of the protected resource.
    resource: Option<(String, String)>,
    /// Name, scope and limit of each quota.
    quotas: Vec<(String, Scope, Quota)>,
    /// Whether rejected requests are charged.
    count_throttled: bool,
    /// Headers that announce the quotas.
    dialect: Dialect,
    /// Duration of every response.
    latency: Duration,
    /// Responses of the test's own; the first match wins.
    routes: Vec<Route>,
    /// Wall-clock time at the start; `None` for the system's.
    wall_clock: Option<SystemTime>,
}

impl ApiBuilder {
    /// Creates a builder with all defaults.
    pub(super) fn new() -> Self {
        Self {
            admission: Admission {
                tokens: None,
                api_key: None,
                challenge: Some(HeaderValue::from_static("Bearer error=\"invalid_token\"")),
            },
            resource: None,
            quotas: Vec::new(),
            count_throttled: false,
            dialect: Dialect::default(),
            latency: Duration::ZERO,
            routes: Vec::new(),
            wall_clock: None,
        }
    }

    /// Accepts requests with `Authorization: Bearer` and a valid token of this registry, or with `Authorization: DPoP`, a
    /// token that is bound to a key, and a proof of that key (RFC 9449 §7); others get a 401. Default: every request is
    /// accepted, unless there is an [`api_key`](Self::api_key).
    pub fn tokens(mut self, tokens: TokenRegistry) -> Self {
        self.admission.tokens = Some(tokens);
        self
    }

    /// Accepts requests whose `header` has this value, as an alternative to a token. Default: none.
    pub fn api_key(mut self, header: HeaderName, value: impl Into<String>) -> Self {
        self.admission.api_key = Some((header, value.into()));
        self
    }

    /// Sets the `WWW-Authenticate` of a 401, or none. Default: `Bearer error="invalid_token"` (RFC 6750 §3).
    pub fn challenge(mut self, challenge: Option<HeaderValue>) -> Self {
        self.admission.challenge = challenge;
        self
    }

    /// Publishes metadata that names `issuer` as the authorization server of the resource at `path` (RFC 9728 §3), and
    /// announces it in the challenge of each 401. Default: none.
    ///
    /// The resource is [`Api::origin`] followed by `path`, such as `/mcp`. The metadata needs no credentials.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::test_util::{Api, Issuer};
    ///
    /// let issuer = Issuer::builder().client("id", "secret").in_process();
    /// let api = Api::builder()
    ///     .tokens(issuer.tokens())
    ///     .protected_resource("/mcp", issuer.origin())
    ///     .in_process();
    /// # drop(api);
    /// ```
    pub fn protected_resource(
        mut self,
        path: impl Into<String>,
        issuer: impl Into<String>,
    ) -> Self {
        self.resource = Some((path.into(), issuer.into()));
        self
    }

    /// Adds a quota for all requests together, with the name `default`. Default: none.
    ///
    /// With several quotas, a request is charged to each one whose scope it is in. If one of them rejects it, it is charged
    /// to none and gets a 429. A request that gets a 401 or a fault is not charged either.
    pub fn quota(self, quota: Quota) -> Self {
        self.quota_for("default", |_, _| true, quota)
    }

    /// Adds a quota for the requests for which `scope` returns `true`, by method and path. Default: none.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_m2m::test_util::{Api, Quota};
    ///
    /// // Writes have a limit of their own.
    /// let writes = Quota::fixed_window(10, Duration::from_secs(60));
    /// let api = Api::builder()
    ///     .quota_for("writes", |method, _| !method.is_safe(), writes)
    ///     .in_process();
    /// # drop(api);
    /// ```
    pub fn quota_for(
        mut self,
        name: impl Into<String>,
        scope: impl Fn(&Method, &str) -> bool + Send + Sync + 'static,
        quota: Quota,
    ) -> Self {
        self.quotas.push((name.into(), Box::new(scope), quota));
        self
    }

    /// Sets whether rejected requests are charged to the quota that rejected them. Default: `false`.
    ///
    /// Some servers count every request, so that a client that retries too early never gets through.
    pub fn count_throttled(mut self, count: bool) -> Self {
        self.count_throttled = count;
        self
    }

    /// Sets the headers that announce the quotas. Default: [`Dialect::RetryAfterOnly`].
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Sets how long every response takes. Token and quota are checked before that. Default: zero.
    ///
    /// With paused time it costs no real time, and makes requests overlap as they do on a network.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Responds to these requests with `answer`; the first matching route wins. A path that ends in `*` matches all paths
    /// with that prefix. Default: 200 with `{"ok":true,"received":n}`, where `n` is the length of the request's body.
    pub fn route(
        mut self,
        method: Method,
        path: impl Into<String>,
        answer: impl Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        self.routes.push(Route {
            method,
            path: path.into(),
            answer: Box::new(answer),
        });
        self
    }

    /// Sets the server's wall-clock time at its start, which then advances with tokio's clock. Default: the system's.
    ///
    /// Set it to test a server whose clock is wrong: reset times and `Date` are computed from it.
    pub fn wall_clock(mut self, wall: SystemTime) -> Self {
        self.wall_clock = Some(wall);
        self
    }

    /// Starts the server on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// Returns an error if no port can be bound.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime with I/O enabled.
    pub async fn start(self) -> io::Result<Api> {
        let (listener, address) = serve::bind().await?;
        // The port is known before the server is built, because its origin contains it.
        let mut api = self.build(format!("http://{address}"));
        api.server = Some(Server::start(listener, api.service()));
        Ok(api)
    }

    /// Builds a server without a socket, for tests that only use [`Api::service`]. Its origin is `https://api.test`.
    #[must_use]
    pub fn in_process(self) -> Api {
        self.build("https://api.test".to_owned())
    }

    /// Builds the server with this origin, without a socket.
    fn build(self, origin: String) -> Api {
        let resource = self
            .resource
            .map(|(path, issuer)| ProtectedResource::new(&origin, &path, &issuer));
        let mut admission = self.admission;
        if let Some(resource) = &resource {
            admission.challenge = resource.add_to(admission.challenge.as_ref());
        }
        let state = State {
            origin,
            admission,
            resource,
            quotas: Quotas::new(self.quotas, self.count_throttled),
            dialect: self.dialect,
            latency: self.latency,
            routes: self.routes,
            epoch: Epoch::start(self.wall_clock),
            script: Script::new(),
            dpop: DpopChecks::default(),
            // The server's clock starts when it is built.
            counts: Mutex::new(Counts::default()),
            requests: Record::new(),
        };
        Api {
            service: ApiService(Arc::new(state)),
            server: None,
        }
    }
}

impl fmt::Debug for ApiBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiBuilder")
            .field("count_throttled", &self.count_throttled)
            .field("dialect", &self.dialect)
            .field("latency", &self.latency)
            .finish_non_exhaustive()
    }
}
