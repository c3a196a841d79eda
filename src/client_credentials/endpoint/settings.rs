//! How a token endpoint is made and set.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{
    AssertionAudience, ClientAuth, Grant, Location, TokenEndpoint, client::Client,
    discovery::Discovery, form::Form, notes::Notes, secret::trim, transport::Transport,
};
#[cfg(feature = "https")]
use super::{
    SecretSource,
    identity::Identity,
    tls::{self, Roots},
};
#[cfg(feature = "https")]
use crate::client_credentials::TokenError;
use crate::{BoxError, secret::Secret};

impl TokenEndpoint {
    /// The endpoint at `uri`, reached through the crate's own https client (feature `https`).
    ///
    /// A query in the URI is kept, as RFC 6749 §3.2 asks.
    #[must_use]
    pub fn new(uri: Uri, auth: ClientAuth) -> Self {
        Self::at(Location::Known(uri), None, auth)
    }

    /// The endpoint that the metadata of `issuer` names (RFC 8414, or OpenID Connect Discovery): `https://`, and to the
    /// letter as the issuer calls itself; or the URL of the metadata, with its `/.well-known/` part.
    ///
    /// The document is fetched with the first token and renewed after an hour, and chooses among the methods that
    /// `auth` can carry out without giving away more: between Basic and the form for a secret, never from a key or an
    /// assertion to a secret. The two well-known places are asked in turn; a 4xx other than 429, a 501, a redirect
    /// or what is no metadata leads from the first to the second. A document that names another issuer is an error, and so
    /// is an endpoint on this machine for an issuer that is not. A renewed one that moves the token endpoint to another
    /// origin, or drops the method in use, is not adopted, which
    /// [`TokenEvent::MetadataNotAdopted`](super::super::TokenEvent::MetadataNotAdopted) tells.
    #[must_use]
    pub fn discover(issuer: impl Into<Arc<str>>, auth: ClientAuth) -> Self {
        let mut notes = Notes::default();
        let issuer: Arc<str> = notes.trim("issuer", issuer.into()).into();
        let discovery = Discovery::new(issuer);
        let issuer = discovery.issuer().into();
        Self {
            notes,
            ..Self::at(Location::Discovered(discovery), Some(issuer), auth)
        }
    }

    fn at(location: Location, issuer: Option<Arc<str>>, auth: ClientAuth) -> Self {
        Self {
            location,
            issuer,
            auth,
            grant: Grant::default(),
            assertion_audience: AssertionAudience::default(),
            assertion_typ: true,
            scopes: Vec::new(),
            parameters: Form::default(),
            default_lifetime: DEFAULT_LIFETIME,
            bearer_types: Vec::new(),
            strict: false,
            retries: DEFAULT_RETRIES,
            revocation: None,
            revocation_audience: None,
            allow_http: false,
            client: Client::default(),
            notes: Notes::default(),
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

    /// Trusts the certificates in `certificates`, a private CA's for example, instead of the platform's: PEM, one or
    /// several, or one in DER. May be called again to add more. Default: the platform's root certificates.
    ///
    /// This and [`client_certificate`](Self::client_certificate) set the crate's own client. Its crypto provider is the one
    /// that the process has installed (rustls' `CryptoProvider::install_default`), or else one that any crate of the program
    /// has enabled in rustls. Endpoints without such settings share one client and its connections, on each runtime; with
    /// settings, an endpoint has its own. Connections that are idle for 10 s are closed. A program with a TLS configuration of
    /// its own passes a client to [`service`](Self::service).
    ///
    /// # Errors
    ///
    /// A permanent [`TokenError`] that says what was found, if there is no certificate in it, or one that is damaged or
    /// cannot be a trusted root.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use tower_m2m::{ClientAuth, TokenEndpoint};
    ///
    /// # fn main() -> Result<(), tower_m2m::BoxError> {
    /// let auth = ClientAuth::basic("orders", "secret");
    /// let endpoint = TokenEndpoint::new("https://issuer.internal/token".parse()?, auth)
    ///     .root_certificate(std::fs::read("/etc/ssl/internal-ca.pem")?)?;
    /// # drop(endpoint);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "https")]
    pub fn root_certificate(mut self, certificates: impl AsRef<[u8]>) -> Result<Self, TokenError> {
        self.trust(tls::roots(certificates.as_ref())?);
        Ok(self)
    }

    /// Trusts `roots`, and what was added before.
    #[cfg(feature = "https")]
    pub(in crate::client_credentials) fn trust(&mut self, roots: Roots) {
        self.client.own().trust(roots);
    }

    /// The client's certificate (a chain, its own first) and private key, as PEM, for
    /// [`ClientAuth::tls`](super::ClientAuth::tls) and
    /// [`ClientAuth::self_signed_tls`](super::ClientAuth::self_signed_tls). None by default.
    ///
    /// Both are read again for every fetch, from a [`SecretFile`](super::SecretFile) for example; when they have changed,
    /// new connections are made. If they cannot be read, those that were read last stay in use, which
    /// [`TokenEvent::KeptSecretUsed`](super::super::TokenEvent::KeptSecretUsed) tells. May be combined with
    /// [`root_certificate`](Self::root_certificate), in whatever order.
    #[cfg(feature = "https")]
    #[must_use]
    pub fn client_certificate(mut self, chain: impl SecretSource, key: impl SecretSource) -> Self {
        self.client.own().identify(Identity::new(chain, key));
        self
    }

    /// The grant to ask with. Default: [`Grant::client_credentials`].
    #[must_use]
    pub fn grant(mut self, grant: impl Into<Grant>) -> Self {
        self.grant = grant.into();
        self
    }

    /// The issuer's identifier, where the endpoint is not discovered: the audience of signed assertions. Default: not
    /// known.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<Arc<str>>) -> Self {
        self.issuer = Some(self.notes.trim("issuer", issuer.into()).into());
        self
    }

    /// Whom signed assertions name as their audience. Default: [`AssertionAudience::Issuer`].
    #[must_use]
    pub fn assertion_audience(mut self, audience: impl Into<AssertionAudience>) -> Self {
        self.assertion_audience = match audience.into() {
            AssertionAudience::Other(audience) => {
                AssertionAudience::Other(self.notes.trim("assertion_audience", audience).into())
            }
            audience => audience,
        };
        self
    }

    /// Whether signed assertions carry `typ: client-authentication+jwt` (draft-ietf-oauth-rfc7523bis), which some older
    /// servers refuse. Default: `true`.
    #[must_use]
    pub fn assertion_typ(mut self, typ: bool) -> Self {
        self.assertion_typ = typ;
        self
    }

    /// Asks for `scope`: one, or several with spaces between them. May be called again to add more. None by default.
    ///
    /// A character that RFC 6749 §3.3 does not allow is sent, and
    /// [`TokenEvent::NonstandardSetting`](super::super::TokenEvent::NonstandardSetting) reports it.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        let scope = self.notes.trim("scope", scope);
        for scope in scope.split_ascii_whitespace() {
            if !self.scopes.iter().any(|known| known == scope) {
                self.scopes.push(scope.to_owned());
            }
        }
        self
    }

    /// Asks for a token for `audience`, as Auth0 and others want it. May be called again to add more, as RFC 8693 §2.1
    /// allows. None by default.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.parameter("audience", audience.into())
    }

    /// Asks for a token for `resource` (RFC 8707). May be called again to add more. None by default.
    ///
    /// What is no absolute URI is sent, too, because older servers want a GUID or `id/host@tenant`;
    /// [`TokenEvent::NonstandardSetting`](super::super::TokenEvent::NonstandardSetting) reports it.
    #[must_use]
    pub fn resource(self, resource: impl Into<String>) -> Self {
        self.parameter("resource", resource.into())
    }

    /// Asks for rights in detail (RFC 9396): a JSON array of objects, each with a `type`. None by default.
    #[must_use]
    pub fn authorization_details(self, details: impl Into<serde_json::Value>) -> Self {
        self.parameter("authorization_details", details.into().to_string())
    }

    /// Adds a parameter to the form. Its value is treated as a secret. None by default.
    ///
    /// A name that is set twice, or that the endpoint sets itself, is an error at [`check`](Self::check) or first use:
    /// RFC 6749 §3.2 forbids it. (`resource` and `audience` may be repeated.)
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        let (name, value) = (name.into(), value.into());
        let value = match trim(&value) {
            Some(trimmed) => {
                self.note_trimmed(name.clone());
                trimmed
            }
            None => value,
        };
        self.parameters.push(name, value);
        self
    }

    /// How long a token lives whose answer does not say it. Default: one hour.
    #[must_use]
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = lifetime;
        self
    }

    /// Sends tokens of the `token_type` `kind` as bearer tokens, too: Apigee says `BearerToken`, others `JWT`,
    /// `token`, or nothing between the quotes. Upper and lower case are the same. May be called again to add more. Default: only `Bearer`, and answers without a
    /// type.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{ClientAuth, TokenEndpoint};
    ///
    /// # fn main() -> Result<(), http::uri::InvalidUri> {
    /// let auth = ClientAuth::basic("orders", "secret");
    /// let endpoint = TokenEndpoint::new("https://issuer.example/token".parse()?, auth).bearer_type("BearerToken");
    /// # drop(endpoint);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn bearer_type(mut self, kind: impl Into<String>) -> Self {
        self.bearer_types.push(kind.into());
        self
    }

    /// Refuses answers that hold something which RFC 6749 [forbids](super::super::Quirk::is_forbidden), instead of
    /// making sense of it. Default: off.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// How often a token request is made again within one fetch, after the connection failed, after a 502, 503 or 504
    /// without `Retry-After`, and when half of
    /// [`fetch_timeout`](super::super::ClientCredentialsLayerBuilder::fetch_timeout) has passed without an answer.
    /// Default: 2, after 250 ms to 500 ms and then 500 ms to 1 s.
    ///
    /// Token requests may be repeated: at worst a token is issued that nobody uses. What asks for patience (429,
    /// `Retry-After`) and what is a verdict is never repeated.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Lets the client secret travel over plain http to hosts other than loopback. Anybody on the way can read it.
    #[must_use]
    pub fn dangerously_allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }
}

const DEFAULT_RETRIES: u32 = 2;
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
