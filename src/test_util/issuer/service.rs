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
use serde_json::json;
use tower_service::Service;

use super::{
    super::{
        BoxError,
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
/// It is always ready. Other paths than those of the token endpoints and of the metadata get a 404. A scripted reset is an `io::Error` of kind
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
/// let endpoint = TokenEndpoint::new(issuer.token_url().parse()?, ClientAuth::basic("id", "secret")).service(service);
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
        if head.method == Method::GET && head.uri.path() == METADATA {
            return Ok(protocol::success(self.metadata()));
        }
        let known = |endpoint: &&Endpoint| endpoint.path == head.uri.path();
        let Some(endpoint) = self.endpoints.iter().find(known) else {
            return Ok(empty(StatusCode::NOT_FOUND));
        };
        // Only requests to a token endpoint count.
        lock(&self.stats).requests += 1;
        // An error closes the connection: a longer body is no token request.
        let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
        let request = RecordedRequest::new(&head, &body, at);
        let form = request.form.clone();
        self.requests.push(request);

        let fault = self
            .script
            .take(|target| target.matches(&head.method, head.uri.path()));
        let response = match fault {
            None => self.grant(endpoint, &head, &form),
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.grant(endpoint, &head, &form)
            }
            // Ends when the client drops the connection or the future.
            Some(Fault::Hang) => pending().await,
            Some(fault) => fault.into_response().ok_or_else(reset)?,
        };
        if response.status().is_client_error() || response.status().is_server_error() {
            lock(&self.stats).rejected += 1;
        }
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        Ok(response)
    }

    /// Returns the metadata of the issuer, with its first token endpoint (RFC 8414 §2).
    fn metadata(&self) -> String {
        let endpoint = self.endpoints.first();
        let path = endpoint.map_or("", |endpoint| &endpoint.path);
        let accepted = endpoint.map_or(&[][..], |endpoint| &endpoint.accepted);
        let mut methods: Vec<_> = accepted.iter().map(|method| method.name()).collect();
        methods.dedup();
        json!({
            "issuer": self.origin,
            "token_endpoint": format!("{}{path}", self.origin),
            "token_endpoint_auth_methods_supported": methods,
        })
        .to_string()
    }

    /// Responds normally to a token request.
    fn grant(
        &self,
        endpoint: &Endpoint,
        head: &Parts,
        form: &[(String, String)],
    ) -> Response<Full<Bytes>> {
        if head.method != Method::POST {
            let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
            let allowed = HeaderValue::from_static("POST");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        self.issue(endpoint, head, form)
            .unwrap_or_else(|refusal| refusal.into_response(&head.headers))
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

        let expires_in = *lock(&self.expires_in);
        let window = (self.window)(expires_in);
        let issued = self.tokens.issue(&client_id, expires_in, window);
        {
            // Both counters change together, so that a reader never gets one without the other.
            let mut seen = lock(&self.stats);
            seen.issued += 1;
            seen.redundant += u64::from(issued.redundant);
        }
        Ok(protocol::success(self.answer.write(&Grant {
            access_token: &issued.token,
            client_id: &client_id,
            scope,
            expires_in,
            issued_at: self.epoch.wall_clock(self.epoch.now()),
            issuer: &self.origin,
        })))
    }
}

/// Creates a response without a body.
fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Well-known path of the metadata (RFC 8414 §3).
const METADATA: &str = "/.well-known/oauth-authorization-server";
/// Maximum size of a token request, in bytes: far more than any real one.
const MAX_BODY: usize = 64 * 1024;
