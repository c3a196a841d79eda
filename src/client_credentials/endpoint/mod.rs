//! A [`TokenSource`] that speaks RFC 6749 §4.4 over any tower service.

mod auth;
mod form;
mod response;
mod secret;
mod transport;

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body;
use http_body_util::Full;
use secrecy::SecretString;
use tower_service::Service;

pub use self::{auth::ClientAuth, secret::SecretSource};
use self::{auth::Credentials, form::Form, transport::Transport};
use super::{AccessToken, FetchContext, TokenError, TokenSource};
use crate::{BoxError, Origin};

/// An authorization server's token endpoint, asked with the `client_credentials` grant (RFC 6749 §4.4).
///
/// Token requests are `POST`s with a form, over https (plain http is for loopback only). Redirects are never followed.
/// What is configured wrongly (an http URL, an empty client id, a scope with a quote in it) is told by
/// [`check`](Self::check), or by a permanent [`TokenError`] at the first use; nothing is sent then.
///
/// Answers are read tolerantly: `expires_in` may be a number, a string or a float, or be missing, and then `exp` counts,
/// and then [`default_lifetime`](Self::default_lifetime); `token_type` may be missing or in any case, but a type other
/// than Bearer is an error; an `error` member is an error whatever the status; 429 and 5xx are transient whatever the
/// body says. An answer may have 1 MiB.
#[derive(Clone)]
pub struct TokenEndpoint {
    uri: Uri,
    auth: ClientAuth,
    scopes: Vec<String>,
    parameters: Form,
    default_lifetime: Duration,
    allow_http: bool,
    client: Client,
}

#[derive(Clone)]
enum Client {
    Service(Transport),
    #[cfg(feature = "https")]
    Own {
        config: Option<Box<rustls::ClientConfig>>,
        /// Made at the first use, and made again after a failure.
        made: std::sync::Arc<crate::sync::Mutex<Option<Transport>>>,
    },
    #[cfg(not(feature = "https"))]
    None,
}

impl TokenEndpoint {
    /// The endpoint at `uri`, reached through the crate's own https client (feature `ring` or `aws-lc-rs`).
    ///
    /// A query in the URI is kept, as RFC 6749 §3.2 asks.
    #[must_use]
    pub fn new(uri: Uri, auth: ClientAuth) -> Self {
        Self {
            uri,
            auth,
            scopes: Vec::new(),
            parameters: Form::default(),
            default_lifetime: DEFAULT_LIFETIME,
            allow_http: false,
            #[cfg(feature = "https")]
            client: Client::Own {
                config: None,
                made: std::sync::Arc::default(),
            },
            #[cfg(not(feature = "https"))]
            client: Client::None,
        }
    }

    /// Sends token requests through `service`, which is cloned for each. It must not follow redirects.
    #[must_use]
    pub fn service<S, RB>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        RB: Body + Send + 'static,
        RB::Data: Send,
        RB::Error: Into<BoxError>,
    {
        self.client = Client::Service(Transport::new(service));
        self
    }

    /// The TLS configuration of the crate's own client: private CAs, a client certificate, another crypto provider.
    /// The default trusts the platform's root certificates.
    #[cfg(feature = "https")]
    #[must_use]
    pub fn tls_config(mut self, config: rustls::ClientConfig) -> Self {
        self.client = Client::Own {
            config: Some(Box::new(config)),
            made: std::sync::Arc::default(),
        };
        self
    }

    /// Asks for `scope`: one, or several with spaces between them. May be called again to add more. None by default.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        for scope in scope.as_ref().split(' ').filter(|s| !s.is_empty()) {
            if !self.scopes.iter().any(|known| known == scope) {
                self.scopes.push(scope.to_owned());
            }
        }
        self
    }

    /// Asks for a token for `audience`, as Auth0 and others want it. None by default.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.parameter("audience", audience.into())
    }

    /// Asks for a token for `resource` (RFC 8707). May be called again to add more. None by default.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.parameters.push("resource", resource.into());
        self
    }

    /// Adds a parameter to the form. Its value is treated as a secret. None by default.
    ///
    /// A name that is set twice, or that the endpoint sets itself, is an error at [`check`](Self::check) or first use:
    /// RFC 6749 §3.2 forbids it. (`resource` alone may be repeated.)
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.parameters.push(name, value);
        self
    }

    /// How long a token lives whose answer does not say it. Default: one hour.
    #[must_use]
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = lifetime;
        self
    }

    /// Lets the client secret travel over plain http to hosts other than loopback. Anybody on the way can read it.
    #[must_use]
    pub fn dangerously_allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }

    /// Looks for what is configured wrongly, without sending anything.
    ///
    /// # Errors
    ///
    /// A permanent [`TokenError`] that names the setting. The same comes out of the first token request.
    pub fn check(&self) -> Result<(), TokenError> {
        let problem = self
            .uri_problem()
            .or_else(|| self.auth.problem().map(str::to_owned))
            .or_else(|| self.parameter_problem());
        match problem {
            Some(problem) => Err(self.name(TokenError::configuration(format!(
                "was not sent: {problem}"
            )))),
            None => Ok(()),
        }
    }

    fn uri_problem(&self) -> Option<String> {
        let Some(origin) = Origin::of(&self.uri) else {
            return Some(
                "the token endpoint must be an absolute https URL without user info".to_owned(),
            );
        };
        (!origin.is_https() && !origin.is_loopback() && !self.allow_http).then(|| {
            "plain http would show the client secret to anybody on the way; use https, or `.dangerously_allow_http()`"
                .to_owned()
        })
    }

    fn parameter_problem(&self) -> Option<String> {
        // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
        let odd = self.scopes.iter().find(|scope| {
            !scope
                .bytes()
                .all(|b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E))
        });
        if let Some(scope) = odd {
            return Some(format!(
                "the scope {scope:?} holds a character that RFC 6749 §3.3 does not allow"
            ));
        }
        let name = self.parameters.repeated(&["resource"]).or_else(|| {
            OWN_PARAMETERS
                .into_iter()
                .find(|name| self.parameters.contains(name))
        })?;
        Some(format!(
            "the parameter {name:?} is set twice; it has a setting of its own, or belongs there once"
        ))
    }

    fn name(&self, error: TokenError) -> TokenError {
        error.with_endpoint(response::place(&self.uri))
    }

    fn transport(&self) -> Result<Transport, TokenError> {
        match &self.client {
            Client::Service(transport) => Ok(transport.clone()),
            #[cfg(feature = "https")]
            Client::Own { config, made } => {
                if let Some(transport) = &*crate::sync::lock(made) {
                    return Ok(transport.clone());
                }
                // Made outside the lock: it reads files.
                let transport = transport::own::client(config.as_deref().cloned())?;
                Ok(crate::sync::lock(made).insert(transport).clone())
            }
            #[cfg(not(feature = "https"))]
            Client::None => Err(TokenError::configuration(
                "was not sent: this build has no https client; pass yours with `.service(..)`, or enable the feature \
                 `ring`",
            )),
        }
    }

    async fn request(&self) -> Result<(Request<Full<Bytes>>, Credentials), TokenError> {
        let mut credentials = Credentials::default();
        credentials.form.push("grant_type", "client_credentials");
        if !self.scopes.is_empty() {
            credentials.form.push("scope", self.scopes.join(" "));
        }
        credentials.form.extend(&self.parameters);
        self.auth.authenticate(&mut credentials).await?;

        let mut request = Request::new(Full::new(credentials.form.encode()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = std::mem::take(&mut credentials.headers);
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, FORM);
        headers.insert(header::ACCEPT, JSON);
        headers.insert(header::USER_AGENT, USER_AGENT);
        Ok((request, credentials))
    }

    async fn exchange(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        self.check()?;
        let transport = self.transport()?;
        let (request, credentials) = self.request().await?;
        let sent_at = cx.clock().now();
        let answered = transport.send(request).await?;
        let context = response::Context {
            wall: cx.clock().wall(),
            default_lifetime: self.default_lifetime,
            advice: credentials.advice,
            secrets: &credentials.secrets,
        };
        response::read(answered.status, &answered.headers, &answered.body, &context)
            .map(|token| token.with_sent_at(sent_at))
    }
}

impl TokenSource for TokenEndpoint {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        self.exchange(cx).await.map_err(|error| self.name(error))
    }

    async fn changed(&self) -> bool {
        self.auth.changed().await
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint")
            .field("uri", &response::place(&self.uri))
            .field("auth", &self.auth)
            .field("scopes", &self.scopes)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
const OWN_PARAMETERS: [&str; 6] = [
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "grant_type",
    "scope",
];
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("tower-m2m/", env!("CARGO_PKG_VERSION")));
