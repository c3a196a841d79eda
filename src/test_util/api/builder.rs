//! The settings of a resource server.

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
        quota::Quota,
        script::{Record, Script},
        serve::{self, Server},
        time::Epoch,
        token_book::TokenBook,
    },
    Api, ApiService, Dialect,
    quotas::{Quotas, Scope},
    service::{Admission, Counts, Route, State},
};

/// Sets up an [`Api`].
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
    admission: Admission,
    quotas: Vec<(String, Scope, Quota)>,
    count_refused: bool,
    dialect: Dialect,
    latency: Duration,
    routes: Vec<Route>,
    wall: Option<SystemTime>,
}

impl ApiBuilder {
    pub(super) fn new() -> Self {
        Self {
            admission: Admission {
                tokens: None,
                api_key: None,
                challenge: Some(HeaderValue::from_static("Bearer error=\"invalid_token\"")),
            },
            quotas: Vec::new(),
            count_refused: false,
            dialect: Dialect::default(),
            latency: Duration::ZERO,
            routes: Vec::new(),
            wall: None,
        }
    }

    /// Admits requests with `Authorization: Bearer` and a valid token of this book; others get a 401.
    /// Default: everybody is admitted, unless there is an [`api_key`](Self::api_key).
    pub fn tokens(mut self, tokens: TokenBook) -> Self {
        self.admission.tokens = Some(tokens);
        self
    }

    /// Admits requests whose `header` has this value, as an alternative to a token. Default: none.
    pub fn api_key(mut self, header: HeaderName, value: impl Into<String>) -> Self {
        self.admission.api_key = Some((header, value.into()));
        self
    }

    /// The `WWW-Authenticate` of a 401, or none. Default: `Bearer error="invalid_token"` (RFC 6750 §3).
    pub fn challenge(mut self, challenge: Option<HeaderValue>) -> Self {
        self.admission.challenge = challenge;
        self
    }

    /// A quota for all requests together, by the name `default`. Default: none.
    ///
    /// With several quotas a request is charged to each it falls under. If one of them refuses, it is charged to none
    /// and answered with a 429. What gets a 401 or meets a fault is charged to none either.
    pub fn quota(self, quota: Quota) -> Self {
        self.quota_for("default", |_, _| true, quota)
    }

    /// A quota for the requests that `scope` says yes to, by method and path. Default: none.
    pub fn quota_for(
        mut self,
        name: impl Into<String>,
        scope: impl Fn(&Method, &str) -> bool + Send + Sync + 'static,
        quota: Quota,
    ) -> Self {
        self.quotas.push((name.into(), Box::new(scope), quota));
        self
    }

    /// Whether refused requests are charged to the quota that refused them. Default: they are not.
    pub fn count_refused(mut self, count: bool) -> Self {
        self.count_refused = count;
        self
    }

    /// How responses tell of quotas. Default: [`Dialect::RetryAfterOnly`].
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// How long every answer takes. Token and quota are checked before that. Default: no time.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Answers these requests with `answer`; the first route that fits wins. A path that ends in `*` fits all paths
    /// that begin so. Default: 200 with `{"ok":true,"received":n}`, where `n` is the length of the request's body.
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

    /// The server's civil time at its start; from there it goes on with tokio's clock. Default: the system's.
    pub fn wall(mut self, wall: SystemTime) -> Self {
        self.wall = Some(wall);
        self
    }

    /// Listens at a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub async fn start(self) -> io::Result<Api> {
        let (listener, address) = serve::bind().await?;
        let mut api = self.build(format!("http://{address}"));
        api.server = Some(Server::start(listener, api.service()));
        Ok(api)
    }

    /// Listens nowhere: for tests that use [`Api::service`] only. The origin is then `https://api.test`.
    #[must_use]
    pub fn in_process(self) -> Api {
        self.build("https://api.test".to_owned())
    }

    fn build(self, origin: String) -> Api {
        let state = State {
            origin,
            admission: self.admission,
            quotas: Quotas::new(self.quotas, self.count_refused),
            dialect: self.dialect,
            latency: self.latency,
            routes: self.routes,
            epoch: Epoch::start(self.wall),
            script: Script::new(),
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
            .field("count_refused", &self.count_refused)
            .field("dialect", &self.dialect)
            .field("latency", &self.latency)
            .finish_non_exhaustive()
    }
}
