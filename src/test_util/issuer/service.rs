//! The issuer's logic as a service, with or without a socket.

use std::{
    fmt,
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::ALLOW, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::{Map, Value, json};
use tower_service::Service;

use super::{
    super::{
        BoxError,
        dpop::{self, DpopChecks, ProofRejected},
        recorded_request::RecordedRequest,
        script::{Record, Script, lock, reset},
        time::Epoch,
        token_registry::TokenRegistry,
    },
    AcceptedAuth, Answer, Fault, Grant, IssuerStats,
    protocol::{self, OAuthErrorCode},
};

/// An [`Issuer`](super::Issuer) without its socket. Clones share all state; it continues to work after the issuer is
/// dropped.
///
/// The authority of a request's URI is ignored, only its path counts.
///
/// It is always ready. Other paths than those of the endpoints and of the metadata get a 404. A scripted reset is an `io::Error` of kind
/// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset). Dropping the future of a call cancels it.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     BoxError, ClientAuth, TokenEndpoint,
///     test_util::{Issuer, IssuerService},
/// };
///
/// # fn main() -> Result<(), BoxError> {
/// let issuer = Issuer::builder().client("id", "secret").in_process();
/// let service: IssuerService = issuer.service();
///
/// let endpoint =
///     TokenEndpoint::new(issuer.token_url().parse()?, ClientAuth::basic("id", "secret"))
///         .service(service);
/// # drop(endpoint);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct IssuerService(pub(super) Arc<State>);

/// The state of an issuer. None of its locks is held while another one is taken.
pub(super) struct State {
    /// Scheme, host and port.
    pub(super) origin: String,
    /// The token endpoints, the default one first.
    pub(super) endpoints: Vec<Endpoint>,
    /// Ids and secrets of the clients.
    pub(super) clients: Mutex<Vec<(String, String)>>,
    /// Lifetime of new tokens.
    pub(super) expires_in: Mutex<Duration>,
    /// Duration of every response.
    pub(super) latency: Duration,
    /// Format of a token response.
    pub(super) answer: Answer,
    /// Returns the refresh window for a lifetime.
    pub(super) window: fn(Duration) -> Duration,
    /// Path of the issuer identifier.
    pub(super) identifier_path: String,
    /// Path of the revocation endpoint.
    pub(super) revocation_path: String,
    /// Members of the metadata that replace the default ones.
    pub(super) metadata: Vec<(String, Value)>,
    /// Whether a token request needs a proof.
    pub(super) dpop_bound_access_tokens: bool,
    /// Nonce and proofs.
    pub(super) dpop: DpopChecks,
    /// The issuer's clock.
    pub(super) epoch: Epoch,
    /// The tokens issued.
    pub(super) tokens: TokenRegistry,
    /// Scripted faults.
    pub(super) script: Script<Fault>,
    /// The counters.
    pub(super) stats: Mutex<IssuerStats>,
    /// The token requests so far.
    pub(super) requests: Record,
}

/// A token endpoint.
pub(super) struct Endpoint {
    /// Path of the endpoint.
    pub(super) path: String,
    /// Accepted authentication methods.
    pub(super) accepted: Vec<AcceptedAuth>,
}

/// What is at a path.
#[derive(Clone, Copy)]
enum Resource<'a> {
    /// The metadata.
    Metadata,
    /// A token endpoint.
    Token(&'a Endpoint),
    /// The revocation endpoint.
    Revocation,
}

impl<B> Service<Request<B>> for IssuerService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move { state.serve(request).await })
    }
}

impl fmt::Debug for IssuerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerService")
            .field("origin", &self.0.origin)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Serves one request: records it, applies a scripted fault or responds normally, and waits for the latency.
    async fn serve<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, BoxError>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let at = self.epoch.now();
        let (head, body) = request.into_parts();
        let Some(resource) = self.resource(head.uri.path()) else {
            return Ok(empty(StatusCode::NOT_FOUND));
        };
        let is_token = matches!(resource, Resource::Token(_));
        match resource {
            Resource::Metadata => lock(&self.stats).metadata_requests += 1,
            Resource::Token(_) => lock(&self.stats).requests += 1,
            Resource::Revocation => {}
        }
        // An error closes the connection: a longer body is no token request.
        let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
        let request = RecordedRequest::new(&head, &body, at);
        if is_token {
            self.requests.push(request.clone());
        }

        let fault = self.script.take(|target| {
            target.matches(&head.method, head.uri.path()) && (is_token || target.has_path())
        });
        let mut response = match fault {
            None => self.answer(resource, &head, &request.form),
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.answer(resource, &head, &request.form)
            }
            // Ends when the client drops the connection or the future.
            Some(Fault::Hang) => pending().await,
            Some(fault) => fault.into_response().ok_or_else(reset)?,
        };
        if is_token && (response.status().is_client_error() || response.status().is_server_error())
        {
            lock(&self.stats).rejected += 1;
        }
        self.dpop.announce(response.headers_mut());
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        self.epoch.date(response.headers_mut());
        Ok(response)
    }

    /// Returns what is at a path.
    fn resource(&self, path: &str) -> Option<Resource<'_>> {
        let own = &self.identifier_path;
        let is_metadata = path == format!("{OAUTH}{own}")
            || path == format!("{OPENID}{own}")
            || path == format!("{own}{OPENID}");
        if is_metadata {
            return Some(Resource::Metadata);
        }
        if path == self.revocation_path {
            return Some(Resource::Revocation);
        }
        let mut endpoints = self.endpoints.iter();
        let endpoint = endpoints.find(|endpoint| endpoint.path == path)?;
        Some(Resource::Token(endpoint))
    }

    /// Returns the issuer identifier.
    pub(super) fn identifier(&self) -> String {
        format!("{}{}", self.origin, self.identifier_path)
    }

    /// Returns the URL of the revocation endpoint.
    pub(super) fn revocation_url(&self) -> String {
        format!("{}{}", self.origin, self.revocation_path)
    }

    /// Responds normally.
    fn answer(
        &self,
        resource: Resource<'_>,
        head: &Parts,
        form: &[(String, String)],
    ) -> Response<Full<Bytes>> {
        let allowed = match resource {
            Resource::Metadata => Method::GET,
            Resource::Token(_) | Resource::Revocation => Method::POST,
        };
        if head.method != allowed {
            let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
            if let Ok(allowed) = HeaderValue::try_from(allowed.as_str()) {
                response.headers_mut().insert(ALLOW, allowed);
            }
            return response;
        }
        let outcome = match resource {
            Resource::Metadata => Ok(protocol::success(self.document())),
            Resource::Token(endpoint) => self.issue(endpoint, head, form),
            Resource::Revocation => self.revoke(head, form),
        };
        outcome.unwrap_or_else(|error| error.into_response(&head.headers))
    }

    /// Returns the metadata of the issuer, with its first token endpoint (RFC 8414 §2).
    fn document(&self) -> String {
        let endpoint = self.endpoints.first();
        let path = endpoint.map_or("", |endpoint| &endpoint.path);
        let mut methods: Vec<_> = self.accepted().iter().map(|method| method.name()).collect();
        methods.dedup();
        let mut document = Map::from_iter([
            ("issuer".to_owned(), json!(self.identifier())),
            (
                "token_endpoint".to_owned(),
                json!(format!("{}{path}", self.origin)),
            ),
            (
                "token_endpoint_auth_methods_supported".to_owned(),
                json!(methods),
            ),
            (
                "grant_types_supported".to_owned(),
                json!(["client_credentials"]),
            ),
            (
                "revocation_endpoint".to_owned(),
                json!(self.revocation_url()),
            ),
            (
                "revocation_endpoint_auth_methods_supported".to_owned(),
                json!(methods),
            ),
            (
                "dpop_signing_alg_values_supported".to_owned(),
                json!(dpop::ALGORITHMS),
            ),
        ]);
        document.extend(self.metadata.iter().cloned());
        document.retain(|_, value| !value.is_null());
        Value::Object(document).to_string()
    }

    /// Returns the authentication methods of the first token endpoint.
    fn accepted(&self) -> &[AcceptedAuth] {
        self.endpoints
            .first()
            .map_or(&[], |endpoint| &endpoint.accepted)
    }

    /// Authenticates the client, and issues a token.
    fn issue(
        &self,
        endpoint: &Endpoint,
        head: &Parts,
        form: &[(String, String)],
    ) -> Result<Response<Full<Bytes>>, OAuthErrorCode> {
        // Copied, so that the lock is not held while the request is checked.
        let clients = lock(&self.clients).clone();
        let client_id = protocol::check(&head.headers, form, &endpoint.accepted, &clients)?;
        let scope = protocol::single_value(form, "scope")?;
        let key = match self.proof(head) {
            Ok(key) => key,
            Err(rejected) => return Ok(protocol::proof_error(&rejected)),
        };

        let expires_in = *lock(&self.expires_in);
        let window = (self.window)(expires_in);
        let issued = self.tokens.issue(&client_id, expires_in, window);
        {
            // Both counters change together, so that a reader never gets one without the other.
            let mut seen = lock(&self.stats);
            seen.issued += 1;
            seen.redundant += u64::from(issued.redundant);
        }
        let token_type = match key {
            Some(key) => {
                self.tokens.bind(&issued.token, key);
                "DPoP"
            }
            None => "Bearer",
        };
        Ok(protocol::success(self.answer.write(&Grant {
            access_token: &issued.token,
            token_type,
            client_id: &client_id,
            scope,
            expires_in,
            issued_at: self.epoch.wall_clock(self.epoch.now()),
            issuer: &self.origin,
        })))
    }

    /// Returns the thumbprint of the key that the token is to be bound to.
    fn proof(&self, head: &Parts) -> Result<Option<String>, ProofRejected> {
        let url = dpop::url(&head.uri, &self.origin);
        let now = self.epoch.wall_clock(self.epoch.now());
        let key = self
            .dpop
            .check(&head.headers, &head.method, &url, None, now)?;
        if key.is_none() && self.dpop_bound_access_tokens {
            return Err(dpop::invalid("there is no proof"));
        }
        Ok(key)
    }

    /// Revokes a token of the client. An unknown token is no error (RFC 7009 §2.2).
    fn revoke(
        &self,
        head: &Parts,
        form: &[(String, String)],
    ) -> Result<Response<Full<Bytes>>, OAuthErrorCode> {
        let clients = lock(&self.clients).clone();
        let client = protocol::authenticate(&head.headers, form, self.accepted(), &clients)?;
        let token = protocol::single_value(form, "token")?.ok_or(OAuthErrorCode::InvalidRequest)?;
        match self.tokens.client(token) {
            Some(owner) if owner != client => return Err(OAuthErrorCode::UnauthorizedClient),
            Some(_) => {
                self.tokens.revoke(token);
                lock(&self.stats).revoked += 1;
            }
            None => {}
        }
        Ok(empty(StatusCode::OK))
    }
}

/// Creates a response without a body.
fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Well-known path of the metadata (RFC 8414 §3).
const OAUTH: &str = "/.well-known/oauth-authorization-server";
/// Well-known path of the metadata (OpenID Connect Discovery 1.0 §4).
const OPENID: &str = "/.well-known/openid-configuration";
/// Maximum size of a token request, in bytes: far more than any real one.
const MAX_BODY: usize = 64 * 1024;
