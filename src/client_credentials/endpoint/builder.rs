//! Constructors and settings of a token endpoint.
//!
//! No setting fails, except for certificates. `validate` reports an invalid setting later, so that setters can be
//! chained.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

#[cfg(feature = "dpop")]
use super::Dpop;
use super::{
    AssertionAudience, ClientAuth, Grant, Location, ProtectedResource, TokenEndpoint,
    client::Client,
    discovery::{Discovery, ResourceDiscovery},
    form::Form,
    secret::trim,
    transport::Transport,
    warnings::Warnings,
};
#[cfg(feature = "https")]
use super::{
    CertificateBound, Proxy, SecretSource,
    identity::Identity,
    tls::{self, Roots},
};
#[cfg(feature = "https")]
use crate::client_credentials::TokenError;
use crate::{BoxError, secret::Secret};

impl TokenEndpoint {
    /// Creates an endpoint at `uri`, reached through the default https client (feature `https`).
    ///
    /// A query in the URI is kept (RFC 6749 §3.2).
    ///
    /// No request is sent before the first fetch.
    #[must_use]
    pub fn new(uri: Uri, auth: ClientAuth) -> Self {
        Self::at(Location::Known(uri), None, auth)
    }

    /// Creates an endpoint that the metadata of `issuer` names (RFC 8414, or OpenID Connect Discovery).
    ///
    /// `issuer` is an `https://` URL, spelled exactly as the issuer identifies itself, or the URL of the metadata, with
    /// its `/.well-known/` part.
    ///
    /// The metadata is fetched with the first token and renewed after an hour. It selects among the methods that `auth`
    /// supports without disclosing more: between Basic and the form for a secret, never from a key or an assertion to a
    /// secret.
    ///
    /// The well-known URLs are requested in turn: that of RFC 8414, and the two forms of OpenID. A 4xx other than 429, a
    /// 501, a redirect, or content that is no metadata leads to the next one. Metadata that names another issuer is an error, and so is an
    /// endpoint on loopback for an issuer that is not. Renewed metadata that moves the token endpoint to another
    /// origin, or drops the method in use, is rejected, which
    /// [`TokenEvent::MetadataRejected`](super::super::TokenEvent::MetadataRejected) reports.
    #[must_use]
    pub fn discover(issuer: impl Into<Arc<str>>, auth: ClientAuth) -> Self {
        let mut notes = Warnings::default();
        let issuer: Arc<str> = notes.trim("issuer", issuer.into()).into();
        let discovery = Discovery::new(issuer);
        // The identifier, even if the URL of the metadata was configured.
        let issuer = discovery.issuer().into();
        Self {
            warnings: notes,
            ..Self::at(Location::Discovered(discovery), Some(issuer), auth)
        }
    }

    /// Creates an endpoint that an API names: the metadata of the API names the issuer (RFC 9728), whose metadata names
    /// the endpoint.
    ///
    /// `resource` is the `https://` URL by which the API identifies itself, or a [`ProtectedResource`] with further
    /// settings. Its metadata must name it exactly. Set [`allow_issuer`](ProtectedResource::allow_issuer) if you know
    /// the issuer: otherwise the API decides which server receives the credentials.
    ///
    /// With the first token, the API is requested without a token, by a `GET`
    /// ([`probe_method`](ProtectedResource::probe_method)). If it responds with a 401, the
    /// `resource_metadata` of its challenge is the URL of the metadata, which must be at the origin of the API.
    /// Otherwise, the well-known URLs are requested. The [`service`](Self::service) sends these requests as well: one to the
    /// API, at most three for its metadata, and at most four for that of the issuer. A transient failure before the
    /// issuer is known repeats all of them, at most [`retries`](Self::retries) times in a fetch. From then on, the API is
    /// not requested without a token again.
    ///
    /// The token is requested for the `resource` that the metadata names (RFC 8707), unless
    /// [`resource`](Self::resource) sets another one. The scopes are those of [`scope`](Self::scope), or else those that
    /// the challenge names, or else, by a [setting](ProtectedResource::supported_scopes), those of the metadata.
    ///
    /// The metadata of the API is renewed after an hour, and after a 401 that announces it. Renewed metadata that no
    /// longer names the issuer in use is rejected, which
    /// [`TokenEvent::MetadataRejected`](super::super::TokenEvent::MetadataRejected) reports: restart the program to
    /// change the issuer. The metadata of the issuer is treated as in [`discover`](Self::discover).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{ClientAuth, TokenEndpoint};
    ///
    /// # fn main() -> Result<(), http::uri::InvalidUri> {
    /// let auth = ClientAuth::basic("orders", "secret");
    /// let resource: http::Uri = "https://api.example.com/mcp".parse()?;
    /// let endpoint = TokenEndpoint::for_resource(resource, auth);
    /// # drop(endpoint);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn for_resource(resource: impl Into<ProtectedResource>, auth: ClientAuth) -> Self {
        let discovery = ResourceDiscovery::new(resource.into());
        Self::at(Location::Resource(discovery), None, auth)
    }

    /// Creates an endpoint with the default settings.
    fn at(location: Location, issuer: Option<Arc<str>>, auth: ClientAuth) -> Self {
        Self {
            location,
            issuer,
            auth,
            grant: Grant::default(),
            assertion_audience: AssertionAudience::default(),
            assertion_typ: true,
            scopes: Vec::new(),
            added_scopes: Vec::new(),
            parameters: Form::default(),
            default_lifetime: DEFAULT_LIFETIME,
            bearer_types: Vec::new(),
            strict: false,
            retries: DEFAULT_RETRIES,
            revocation: None,
            revocation_audience: None,
            #[cfg(feature = "dpop")]
            dpop: None,
            #[cfg(feature = "https")]
            certificate_bound: None,
            allow_http: false,
            client: Client::default(),
            warnings: Warnings::default(),
        }
    }

    /// Sends token requests through `service`, which is cloned for each request. Default: the default client (feature
    /// `https`).
    ///
    /// The service must not follow redirects, because they would disclose the credentials.
    ///
    /// Use it for a TLS setup of your own, for a proxy that [`proxy`](Self::proxy) does not support, such as SOCKS, or for a
    /// client with its own metrics. It does not read `HTTPS_PROXY`, unless it does so by itself, as reqwest's client does. Time limits are not needed: the
    /// fetch has one.
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

    /// Trusts `certificates`, for example those of a private CA, instead of the platform's: one or more in PEM, or one
    /// in DER. Further calls add more. Default: the platform's root certificates.
    ///
    /// This setting and [`client_certificate`](Self::client_certificate) apply to the default client, and replace a
    /// [`service`](Self::service). The crypto provider is the one that the process has installed (rustls'
    /// `CryptoProvider::install_default`), or else one that any crate of the program has enabled in rustls.
    ///
    /// Endpoints without these settings share one client and its connections on each runtime. An endpoint with settings
    /// has its own. Connections that are idle for 10 s are closed. For any other TLS configuration, pass a client to
    /// [`service`](Self::service).
    ///
    /// # Errors
    ///
    /// A permanent [`TokenError`] that describes what was found, if there is no certificate, or one is damaged or
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

    /// Adds `roots` to the trusted roots.
    #[cfg(feature = "https")]
    pub(in crate::client_credentials) fn trust(&mut self, roots: Roots) {
        self.client.own().trust(roots);
    }

    /// Sets the client certificate (a chain, with the client's own first) and its private key, in PEM, for
    /// [`ClientAuth::tls`](super::ClientAuth::tls) and
    /// [`ClientAuth::self_signed_tls`](super::ClientAuth::self_signed_tls). Default: none.
    ///
    /// Both are read again for every fetch, for example from a [`SecretFile`](super::SecretFile). When they have
    /// changed, new connections are opened. If they cannot be read, the previous ones stay in use, which
    /// [`TokenEvent::FallbackSecretUsed`](super::super::TokenEvent::FallbackSecretUsed) reports.
    ///
    /// May be combined with [`root_certificate`](Self::root_certificate) in any order.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::SecretFile};
    ///
    /// # fn main() -> Result<(), http::uri::InvalidUri> {
    /// let auth = ClientAuth::tls("orders");
    /// let endpoint = TokenEndpoint::new("https://mtls.issuer.example/token".parse()?, auth)
    ///     .client_certificate(
    ///         SecretFile::new("/run/secrets/tls.crt"),
    ///         SecretFile::new("/run/secrets/tls.key"),
    ///     );
    /// # drop(endpoint);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "https")]
    #[must_use]
    pub fn client_certificate(mut self, chain: impl SecretSource, key: impl SecretSource) -> Self {
        self.client.own().set_identity(Identity::new(chain, key));
        self
    }

    /// Sets the HTTP proxy of token requests. Default: [`Proxy::environment`], which follows `HTTPS_PROXY`, `NO_PROXY`
    /// and the like if they are set, and never for loopback.
    ///
    /// As [`root_certificate`](Self::root_certificate), it applies to the default client, and replaces a
    /// [`service`](Self::service). Requests to the API are sent by the service that the layer wraps, which has a proxy
    /// setting of its own.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::Proxy};
    ///
    /// # fn main() -> Result<(), http::uri::InvalidUri> {
    /// let auth = ClientAuth::basic("orders", "secret");
    /// let endpoint = TokenEndpoint::new("https://issuer.example/token".parse()?, auth)
    ///     .proxy(Proxy::new("http://proxy.internal:3128").no_proxy(".internal"));
    /// # drop(endpoint);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "https")]
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.client.own().set_proxy(proxy);
        self
    }

    /// Sets the grant. Default: [`Grant::client_credentials`].
    ///
    /// The client authentication is independent of it: any grant may be combined with any [`ClientAuth`].
    #[must_use]
    pub fn grant(mut self, grant: impl Into<Grant>) -> Self {
        self.grant = grant.into();
        self
    }

    /// Sets the issuer identifier, which is the audience of signed assertions. Needed only if the endpoint is not
    /// discovered. Default: unknown.
    ///
    /// It is neither verified nor requested. With [`discover`](Self::discover) the metadata's own spelling is used
    /// instead, unless this setting names another issuer.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<Arc<str>>) -> Self {
        self.issuer = Some(self.warnings.trim("issuer", issuer.into()).into());
        self
    }

    /// Sets the audience of signed assertions. Default: [`AssertionAudience::Issuer`].
    ///
    /// The default follows draft-ietf-oauth-rfc7523bis, which allows only the issuer. Older servers often require the
    /// URL of the token endpoint: an `invalid_client` for a correct key is the usual sign.
    #[must_use]
    pub fn assertion_audience(mut self, audience: impl Into<AssertionAudience>) -> Self {
        self.assertion_audience = match audience.into() {
            AssertionAudience::Other(audience) => {
                AssertionAudience::Other(self.warnings.trim("assertion_audience", audience).into())
            }
            audience => audience,
        };
        self
    }

    /// Sets whether signed assertions carry `typ: client-authentication+jwt` (draft-ietf-oauth-rfc7523bis), which some
    /// older servers reject. Default: `true`.
    #[must_use]
    pub fn assertion_typ(mut self, typ: bool) -> Self {
        self.assertion_typ = typ;
        self
    }

    /// Requests `scope`: one scope, or several separated by spaces. Further calls add more. Default: none.
    ///
    /// A character that RFC 6749 §3.3 forbids is sent all the same, and
    /// [`TokenEvent::NonstandardSetting`](super::super::TokenEvent::NonstandardSetting) reports it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{ClientAuth, TokenEndpoint};
    ///
    /// # fn main() -> Result<(), http::uri::InvalidUri> {
    /// let auth = ClientAuth::basic("orders", "secret");
    /// let endpoint = TokenEndpoint::new("https://issuer.example/token".parse()?, auth)
    ///     .scope("orders.read orders.write")
    ///     .scope("invoices.read");
    /// # drop(endpoint);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        let scope = self.warnings.trim("scope", scope);
        for scope in scope.split_ascii_whitespace() {
            // A repeated scope has no meaning, so duplicates are dropped.
            if !self.scopes.iter().any(|known| known == scope) {
                self.scopes.push(scope.to_owned());
            }
        }
        self
    }

    /// Requests a token for `audience`, as Auth0 and others require. Further calls add more (RFC 8693 §2.1). Default:
    /// none.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.parameter("audience", audience.into())
    }

    /// Requests a token for `resource` (RFC 8707). Further calls add more. Default: none.
    ///
    /// A value that is not an absolute URI is sent all the same, because older servers require a GUID or
    /// `id/host@tenant`. [`TokenEvent::NonstandardSetting`](super::super::TokenEvent::NonstandardSetting) reports it.
    #[must_use]
    pub fn resource(self, resource: impl Into<String>) -> Self {
        self.parameter("resource", resource.into())
    }

    /// Requests authorization details (RFC 9396 §2): a JSON array of objects, each with a `type`. Default: none.
    ///
    /// # Examples
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_m2m::{ClientAuth, TokenEndpoint};
    ///
    /// let auth = ClientAuth::basic("orders", "secret");
    /// let endpoint = TokenEndpoint::discover("https://issuer.example", auth)
    ///     .authorization_details(json!([{ "type": "payment", "actions": ["initiate"] }]));
    /// assert!(endpoint.validate().is_ok());
    /// ```
    #[must_use]
    pub fn authorization_details(self, details: impl Into<serde_json::Value>) -> Self {
        self.parameter("authorization_details", details.into().to_string())
    }

    /// Adds a parameter to the form. Its value is treated as a secret. Default: none.
    ///
    /// A name that is set twice, or that the endpoint sets itself, is an error of [`validate`](Self::validate) or at
    /// the first use, because RFC 6749 §3.2 forbids it. Only `resource` and `audience` may be repeated.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        let (name, value) = (name.into(), value.into());
        let value = match trim(&value) {
            Some(trimmed) => {
                // The name is reported, never the value.
                self.note_trimmed(name.clone());
                trimmed
            }
            None => value,
        };
        self.parameters.push(name, value);
        self
    }

    /// Sets the lifetime of a token whose response does not contain one. Default: one hour.
    ///
    /// Set it to the lifetime that the server documents. Too long a value costs one rejected request per token, which
    /// is replayed; too short a value costs token requests.
    #[must_use]
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = lifetime;
        self
    }

    /// Accepts `kind` as a `token_type` that is used like Bearer. Apigee returns `BearerToken`, other servers `JWT`,
    /// `token` or an empty text. Case is ignored. Further calls add more. Default: only `Bearer`, and responses without
    /// a type.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{ClientAuth, TokenEndpoint};
    ///
    /// # fn main() -> Result<(), http::uri::InvalidUri> {
    /// let auth = ClientAuth::basic("orders", "secret");
    /// let endpoint = TokenEndpoint::new("https://issuer.example/token".parse()?, auth)
    ///     .bearer_type("BearerToken");
    /// # drop(endpoint);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn bearer_type(mut self, kind: impl Into<String>) -> Self {
        self.bearer_types.push(kind.into());
        self
    }

    /// Requests tokens that are bound to a key (RFC 9449). Default: bearer tokens.
    ///
    /// Each token request has a proof. The layer then sends each token with the scheme `DPoP` and with a proof of its
    /// own for each attempt. A nonce that a server requires is sent at once, in one further request; it costs no token.
    ///
    /// The token's header is `Authorization` (RFC 9449 §7.1); leave
    /// [`header`](super::super::ClientCredentialsLayerBuilder::header) at its default.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::Dpop};
    ///
    /// let auth = ClientAuth::basic("orders", "secret");
    /// let endpoint =
    ///     TokenEndpoint::discover("https://issuer.example", auth).dpop(Dpop::generated());
    /// # drop(endpoint);
    /// ```
    #[cfg(feature = "dpop")]
    #[must_use]
    pub fn dpop(mut self, dpop: Dpop) -> Self {
        self.dpop = Some(dpop);
        self
    }

    /// Requests tokens that are bound to the client certificate (RFC 8705 §3), with any client authentication. Default:
    /// off. A token whose claims say that it is bound is then reported
    /// ([`TokenEvent::BoundToken`](super::super::TokenEvent::BoundToken)) and sent.
    ///
    /// Token requests go to the alias in `mtls_endpoint_aliases` (RFC 8705 §5), and metadata must offer such tokens
    /// (`tls_client_certificate_bound_access_tokens`). A token that is not bound, or is bound to another certificate
    /// than the API's client presents, is an error; see [`CertificateBound`](super::CertificateBound).
    ///
    /// The layer drops a token when its certificate changes (RFC 8705 §6.2): while requests are sent, the certificate is
    /// read every 5 s. [`TokenEvent::CertificateChanged`](super::super::TokenEvent::CertificateChanged) reports it, and
    /// requests wait for the next token. The API's client must open new connections for the new certificate by itself.
    ///
    /// Needs [`client_certificate`](Self::client_certificate), or a [`service`](Self::service) that presents one.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{
    ///     ClientAuth, TokenEndpoint,
    ///     client_credentials::{CertificateBound, SecretFile},
    /// };
    ///
    /// let file = |name| SecretFile::new(format!("/run/tls/{name}"));
    /// let endpoint = TokenEndpoint::discover("https://issuer.example", ClientAuth::tls("orders"))
    ///     .client_certificate(file("tls.crt"), file("tls.key"))
    ///     .certificate_bound(CertificateBound::new());
    /// assert!(endpoint.validate().is_ok());
    /// ```
    #[cfg(feature = "https")]
    #[must_use]
    pub fn certificate_bound(mut self, bound: CertificateBound) -> Self {
        self.certificate_bound = Some(bound);
        self
    }

    /// Treats a response as an error if it contains anything that RFC 6749
    /// [forbids](super::super::NonConformance::is_forbidden), instead of reading it leniently. Default: off.
    ///
    /// For conformance tests, and for servers under your control. A server that starts to deviate then causes an
    /// outage, so that it is off by default.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Sets the maximum number of retries of a token request within one fetch. Default: 2, after 250 ms to 500 ms and
    /// then 500 ms to 1 s.
    ///
    /// A request is retried if the connection fails, after a 502, 503 or 504 without `Retry-After`, and when half of
    /// [`fetch_timeout`](super::super::ClientCredentialsLayerBuilder::fetch_timeout) elapses without a response. A
    /// transient failure of a signer is retried as well.
    ///
    /// Token requests may be repeated: at worst an issued token is not used. A 429, a response with `Retry-After` and a
    /// permanent error are never retried.
    ///
    /// Set it to 0 if the server counts every request against a tight quota, or if it locks a client after a few
    /// failures.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Allows plain http to hosts other than loopback. Anyone on the network path can then read the client secret.
    /// Default: off.
    #[must_use]
    pub fn dangerously_allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }
}

/// Default maximum number of retries within one fetch.
const DEFAULT_RETRIES: u32 = 2;
/// Default lifetime of a token whose response has none.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
