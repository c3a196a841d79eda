//! An issuer that binds its tokens to the client's certificate, and an API that checks the binding, on one TLS server.
//! The server accepts any certificate, as one for self-signed certificates does (RFC 8705 §2.2).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use tokio_rustls::TlsAcceptor;
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, Clock, SystemClock, TokenEndpoint,
    client_credentials::{
        CertificateBound, CertificateThumbprint, ClientCredentialsLayerBuilder, TokenError,
        TokenEvent,
    },
};

use crate::support::{
    Inner,
    tls::{CA, CLIENT, CLIENT_UNKNOWN, Pair, SERVER, presenting},
};

/// The two certificates of the tests. Both have the same key.
pub(crate) const FIRST: Pair = CLIENT;
pub(crate) const SECOND: Pair = CLIENT_UNKNOWN;

/// How the issuer binds its tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Binding {
    /// A JWT whose `cnf` names the certificate.
    Jwt,
    /// An opaque token, of which only the API knows the binding.
    Opaque,
    /// A JWT without `cnf`.
    None,
    /// A JWT that is bound to the certificate of a proxy.
    Proxy,
}

pub(crate) struct State {
    pub(crate) binding: Binding,
    /// Members of the metadata beside the endpoints.
    pub(crate) metadata: serde_json::Value,
    /// Whether the API's connections say which certificate they present.
    pub(crate) names_certificate: bool,
    /// Paths of the requests, without those of the API.
    pub(crate) paths: Vec<String>,
    /// Statuses of the API.
    pub(crate) statuses: Vec<StatusCode>,
    issued: HashMap<String, Option<CertificateThumbprint>>,
}

/// The server, the certificate that the clients present, and the layer's time.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
    /// What the token endpoint's client reads.
    pub(crate) endpoint: Certificate,
    /// What the API's client presents.
    pub(crate) api: Certificate,
    events: Arc<Mutex<Vec<&'static str>>>,
    clock: Offset,
    _task: Arc<Server>,
}

struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A certificate in a file, as it were.
#[derive(Clone)]
pub(crate) struct Certificate(Arc<Mutex<Vec<u8>>>);

impl Certificate {
    fn new(pair: Pair) -> Self {
        Self(Arc::new(Mutex::new(pair.0.to_vec())))
    }

    pub(crate) fn replace(&self, content: impl AsRef<[u8]>) {
        *self.0.lock().unwrap() = content.as_ref().to_vec();
    }

    fn read(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    /// A source of it.
    pub(crate) fn source(
        &self,
    ) -> impl Fn() -> std::future::Ready<Result<tower_m2m::client_credentials::Secret, TokenError>>
    + Clone
    + Send
    + Sync
    + 'static
    + use<> {
        let file = self.clone();
        move || {
            let pem = String::from_utf8(file.read()).unwrap();
            std::future::ready(Ok(pem.into()))
        }
    }
}

/// The system's clock, and an offset.
#[derive(Clone, Default)]
struct Offset(Arc<Mutex<Duration>>);

impl Clock for Offset {
    fn now(&self) -> Instant {
        SystemClock::default().now() + *self.0.lock().unwrap()
    }

    fn wall_clock(&self) -> SystemTime {
        SystemClock::default().wall_clock() + *self.0.lock().unwrap()
    }
}

impl World {
    /// Starts the server. Both clients present the first certificate.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            binding: Binding::Jwt,
            metadata: serde_json::json!({}),
            names_certificate: false,
            paths: Vec::new(),
            statuses: Vec::new(),
            issued: HashMap::new(),
        }));
        let acceptor = TlsAcceptor::from(Arc::new(server_config()));
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&state)));
        Self {
            port,
            state,
            endpoint: Certificate::new(FIRST),
            api: Certificate::new(FIRST),
            events: Arc::default(),
            clock: Offset::default(),
            _task: Arc::new(Server(task)),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Number of token requests.
    pub(crate) fn token_requests(&self) -> usize {
        let state = self.state();
        let paths = state.paths.iter().filter(|path| path.contains("token"));
        paths.count()
    }

    pub(crate) fn statuses(&self) -> Vec<u16> {
        let state = self.state();
        state
            .statuses
            .iter()
            .map(|status| status.as_u16())
            .collect()
    }

    pub(crate) fn events(&self) -> Vec<&'static str> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) fn advance(&self, time: Duration) {
        *self.clock.0.lock().unwrap() += time;
    }

    /// Replaces the certificate of both clients.
    pub(crate) fn renew(&self, pair: Pair) {
        self.endpoint.replace(pair.0);
        self.api.replace(pair.0);
    }

    /// The token endpoint, whose client presents the endpoint's certificate.
    pub(crate) fn endpoint(&self, auth: ClientAuth) -> TokenEndpoint {
        let url = format!("https://127.0.0.1:{}/token", self.port);
        self.with_certificate(TokenEndpoint::new(url.parse().unwrap(), auth))
    }

    /// The issuer, discovered.
    pub(crate) fn discovered(&self, auth: ClientAuth) -> TokenEndpoint {
        let issuer = format!("https://127.0.0.1:{}", self.port);
        self.with_certificate(TokenEndpoint::discover(issuer, auth))
    }

    fn with_certificate(&self, endpoint: TokenEndpoint) -> TokenEndpoint {
        let key = std::str::from_utf8(FIRST.1).unwrap();
        endpoint
            .root_certificate(CA)
            .unwrap()
            .client_certificate(self.endpoint.source(), key)
    }

    /// A layer with bound tokens.
    pub(crate) fn bound(&self, bound: CertificateBound) -> ClientCredentialsLayerBuilder {
        self.layer(
            self.endpoint(ClientAuth::tls("id"))
                .certificate_bound(bound),
        )
    }

    pub(crate) fn layer(&self, endpoint: TokenEndpoint) -> ClientCredentialsLayerBuilder {
        let origin = format!("https://127.0.0.1:{}", self.port);
        let events = Arc::clone(&self.events);
        ClientCredentialsLayer::builder(endpoint, origin.parse().unwrap())
            .clock(self.clock.clone())
            .seed(7)
            .on_event(move |event| {
                let name = match event {
                    TokenEvent::BoundToken { .. } => "bound",
                    TokenEvent::CertificateChanged { .. } => "changed",
                    TokenEvent::CertificateMismatch { .. } => "mismatch",
                    _ => return,
                };
                events.lock().unwrap().push(name);
            })
    }

    /// The API's client. It opens a connection for each request, with the certificate of that time.
    pub(crate) fn client(&self, layer: &ClientCredentialsLayer) -> Inner {
        let world = self.clone();
        let client = service_fn(move |request: Request<Full<Bytes>>| {
            let certificate = world.api.read();
            let names = world.state().names_certificate;
            async move {
                let thumbprint = CertificateThumbprint::of_certificate(&certificate)?;
                let config = presenting(CA, Some((certificate.leak(), FIRST.1)));
                let connector = hyper_rustls::HttpsConnectorBuilder::new()
                    .with_tls_config(config)
                    .https_only()
                    .enable_http1()
                    .build();
                let client = Client::builder(TokioExecutor::new()).build(connector);
                let mut response = client.request(request).await?.map(|_| Full::default());
                if names {
                    response.extensions_mut().insert(thumbprint);
                }
                Ok::<_, BoxError>(response)
            }
        });
        Inner::new(layer.layer(client).map_err(Into::into))
    }

    /// Sends one request to the API.
    pub(crate) async fn send(&self, client: &Inner) -> Result<StatusCode, BoxError> {
        let url = format!("https://127.0.0.1:{}/orders", self.port);
        let request = Request::get(url).body(Full::default())?;
        let response = client.clone().oneshot(request).await?;
        Ok(response.status())
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let certificates = stream.get_ref().1.peer_certificates();
            let certificate = certificates
                .and_then(|chain| chain.first())
                .map(|leaf| CertificateThumbprint::of_certificate(leaf.as_ref()).unwrap());
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let response = answer(&state, &request, certificate);
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            let service = TowerToHyperService::new(service);
            let server = auto::Builder::new(TokioExecutor::new());
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

fn answer<B>(
    state: &Mutex<State>,
    request: &Request<B>,
    certificate: Option<CertificateThumbprint>,
) -> Response<Full<Bytes>> {
    let mut state = state.lock().unwrap();
    let path = request.uri().path();
    if path != "/orders" {
        state.paths.push(path.to_owned());
    }
    let host = request.headers()[header::HOST].to_str().unwrap();
    let answer = match path {
        "/token" | "/mtls/token" => state.issue(certificate),
        "/.well-known/oauth-authorization-server" => {
            let mut metadata = serde_json::json!({
                "issuer": format!("https://{host}"),
                "token_endpoint": format!("https://{host}/token"),
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "tls_client_auth"],
                "mtls_endpoint_aliases": { "token_endpoint": format!("https://{host}/mtls/token") },
            });
            let more = state.metadata.as_object().unwrap().clone();
            metadata.as_object_mut().unwrap().extend(more);
            metadata.to_string()
        }
        _ => {
            let token = request.headers().get(header::AUTHORIZATION);
            let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            let bound = token.and_then(|token| state.issued.get(token));
            let accepted = bound.is_some_and(|bound| bound.is_none() || *bound == certificate);
            let mut response = Response::new(Full::default());
            if !accepted {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                let challenge = "Bearer error=\"invalid_token\"".parse().unwrap();
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, challenge);
            }
            state.statuses.push(response.status());
            return response;
        }
    };
    Response::new(answer.into())
}

impl State {
    fn issue(&mut self, certificate: Option<CertificateThumbprint>) -> String {
        let number = self.issued.len() + 1;
        let (token, bound) = match self.binding {
            Binding::Jwt => (jwt(number, certificate), certificate),
            Binding::Opaque => (format!("token-{number}"), certificate),
            Binding::None => (jwt(number, None), None),
            Binding::Proxy => {
                let proxy = Some(CertificateThumbprint::from_bytes([7; 32]));
                (jwt(number, proxy), proxy)
            }
        };
        self.issued.insert(token.clone(), bound);
        serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 })
            .to_string()
    }
}

pub(crate) fn jwt(number: usize, certificate: Option<CertificateThumbprint>) -> String {
    let mut claims = serde_json::json!({ "jti": number });
    if let Some(certificate) = certificate {
        claims["cnf"] = serde_json::json!({ "x5t#S256": certificate.to_string() });
    }
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn server_config() -> ServerConfig {
    let chain = CertificateDer::pem_slice_iter(SERVER.0).map(Result::unwrap);
    let key = PrivateKeyDer::from_pem_slice(SERVER.1).unwrap();
    let provider = Arc::new(ring::default_provider());
    ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyCertificate(provider)))
        .with_single_cert(chain.collect(), key)
        .unwrap()
}

/// Accepts any certificate whose key the client has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
