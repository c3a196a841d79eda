//! The settings of an issuer.

use std::{
    fmt, io,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    super::{
        script::{Record, Script},
        serve::{self, Server},
        time::Epoch,
        token_book::TokenBook,
    },
    AcceptedAuth, Answer, Issuer, IssuerSeen,
    service::{Endpoint, IssuerService, State},
};

/// Sets up an [`Issuer`].
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
    clients: Vec<(String, String)>,
    default_endpoint: Endpoint,
    more_endpoints: Vec<Endpoint>,
    expires_in: Duration,
    latency: Duration,
    answer: Answer,
    window: fn(Duration) -> Duration,
}

impl IssuerBuilder {
    pub(super) fn new() -> Self {
        Self {
            clients: Vec::new(),
            default_endpoint: Endpoint {
                path: "/oauth/token".to_owned(),
                accepted: vec![
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
        }
    }

    /// Adds a client. Default: none, so that everybody is refused.
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.clients.push((id.into(), secret.into()));
        self
    }

    /// The path of the token endpoint. Default: `/oauth/token`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.default_endpoint.path = path.into();
        self
    }

    /// How clients may authenticate at the token endpoint. Default: in every way.
    ///
    /// A secret of letters, digits, `-`, `.` and `_` looks the same in both forms of Basic.
    pub fn accept(mut self, methods: impl IntoIterator<Item = AcceptedAuth>) -> Self {
        self.default_endpoint.accepted = methods.into_iter().collect();
        self
    }

    /// Adds another token endpoint, with its own ways to authenticate. Default: none.
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

    /// The lifetime of a token. Default: 300 s. Answers state it in whole seconds, rounded down.
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.expires_in = lifetime;
        self
    }

    /// How long every answer takes. The token is issued, and its life begins, before that. Default: no time.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// The shape of a successful answer. Default: [`Answer::rfc6749`].
    pub fn answer(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// The last part of a lifetime, in which fetching a successor is not counted as needless.
    /// Default: 35 % of the lifetime, at most 60 s.
    pub fn window(mut self, window: fn(Duration) -> Duration) -> Self {
        self.window = window;
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
    pub async fn start(self) -> io::Result<Issuer> {
        let (listener, address) = serve::bind().await?;
        let mut issuer = self.build(format!("http://{address}"));
        issuer.server = Some(Server::start(listener, issuer.service()));
        Ok(issuer)
    }

    /// Listens nowhere: for tests that use [`Issuer::service`] only. The origin is then `https://issuer.test`.
    #[must_use]
    pub fn in_process(self) -> Issuer {
        self.build("https://issuer.test".to_owned())
    }

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
            epoch: Epoch::start(None),
            tokens: TokenBook::new(),
            script: Script::new(),
            seen: Mutex::new(IssuerSeen::default()),
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

fn default_window(lifetime: Duration) -> Duration {
    lifetime.mul_f64(0.35).min(Duration::from_secs(60))
}
