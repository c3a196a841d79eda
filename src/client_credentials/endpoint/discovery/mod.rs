//! Discovery of the token endpoint from the issuer (RFC 8414, OpenID Connect Discovery), with a cache.
//!
//! The metadata is fetched by the first token fetch, and renewed by a later one. There is no background task.
//!
//! ```text
//! no metadata ── first fetch ──▶ cached ── 1 h ──▶ due ─┬─ renewed ──▶ cached
//!      ▲  │                                             └─ failed ───▶ cached, next renewal after 5 s to 10 min
//!      └──┘ failed: the fetch fails
//! ```
//!
//! Metadata decides where credentials are sent. So it is trusted once, at the first fetch, and a later document may
//! only confirm it: see [`Metadata::update`]. A moved endpoint needs a restart; an event reports the rejected document.

mod issuer;
mod metadata;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use tokio::time::{Instant, timeout_at};

pub(super) use self::metadata::{CertificateUse, ClientCapabilities, ResolvedEndpoint};
use self::{
    issuer::Issuer,
    metadata::{Metadata, MetadataError},
};
use super::{response, transport::Transport};
use crate::{
    backoff::Backoff,
    client_credentials::{TokenError, TokenErrorKind, TokenEvent, context::SourceContext},
    clock::add_capped,
    sync::{Mutex, lock},
};

/// An issuer and its cached metadata. Clones share the cache.
///
/// The cache belongs to the endpoint, not to the process: two endpoints with one issuer fetch its metadata twice, and
/// cannot influence each other.
#[derive(Clone, Debug)]
pub(super) struct Discovery {
    /// The issuer.
    issuer: Issuer,
    /// The cache. The fetch that gets a document writes it, and every token fetch reads it. It is replaced as a whole,
    /// so that a reader never sees a partial update. The lock is never held across an `await`.
    state: Arc<Mutex<State>>,
}

/// Cached result of discovery.
///
/// `refresh_at` is `None` only while `endpoint` is.
#[derive(Debug, Default)]
struct State {
    /// The last choice. `None` before the first successful discovery.
    endpoint: Option<ResolvedEndpoint>,
    /// When the metadata must be renewed.
    refresh_at: Option<Instant>,
    /// Number of consecutive failed renewals.
    failures: u32,
}

impl Discovery {
    /// Creates a discovery with an empty cache.
    pub(super) fn new(issuer: Arc<str>) -> Self {
        Self {
            issuer: Issuer::new(issuer),
            state: Arc::default(),
        }
    }

    /// Returns the issuer identifier.
    pub(super) fn issuer(&self) -> &str {
        self.issuer.name()
    }

    /// Returns the endpoints and the authentication method, from the cache or from newly fetched metadata.
    ///
    /// The first fetch must succeed. Later, a failed renewal is reported as an event, and the cached metadata stays in
    /// use.
    ///
    /// # Errors
    ///
    /// Only while nothing is cached: the error of the request, or of metadata that must not be used.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future during a renewal leaves the cached metadata in use. The next renewal is due 5 s after the
    /// dropped one began.
    pub(super) async fn resolve(
        &self,
        transport: &Transport,
        capabilities: ClientCapabilities,
        allow_http: bool,
        cx: &SourceContext<'_>,
    ) -> Result<ResolvedEndpoint, TokenError> {
        let now = cx.clock().now();
        // Concurrent first fetches may each fetch the metadata; the last one wins.
        let Some((known, due)) = self.cached_and_due(now) else {
            let endpoint = self
                .fetch(transport, allow_http, cx.clock().wall_clock())
                .await?
                .resolve(capabilities)?;
            return Ok(self.store(endpoint, now));
        };
        if !due {
            return Ok(known);
        }
        // Limits the renewal, so that a slow server leaves enough time for the token request.
        let limit = add_capped(now, REFRESH_TIMEOUT).min(cx.deadline());
        let renewed = timeout_at(
            limit,
            self.fetch(transport, allow_http, cx.clock().wall_clock()),
        )
        .await
        .unwrap_or_else(|_| Err(TokenError::timeout(REFRESH_TIMEOUT)))
        .and_then(|metadata| metadata.update(&known, capabilities));
        match renewed {
            Ok(endpoint) => Ok(self.store(endpoint, now)),
            Err(error) => {
                self.back_off(now, cx.random());
                let error = error.with_endpoint(self.issuer().to_owned());
                cx.emit(|credential| TokenEvent::MetadataRejected {
                    credential,
                    error: &error,
                });
                Ok(known)
            }
        }
    }

    /// Returns the cached choice, if there is one.
    ///
    /// Used by a revocation, which must not depend on another request.
    pub(super) fn cached(&self) -> Option<ResolvedEndpoint> {
        lock(&self.state).endpoint.clone()
    }

    /// Returns the cached choice, and whether the caller must renew it.
    ///
    /// At most one caller within 5 s gets `true`.
    fn cached_and_due(&self, now: Instant) -> Option<(ResolvedEndpoint, bool)> {
        let mut state = lock(&self.state);
        let endpoint = state.endpoint.clone()?;
        let due = state.refresh_at.is_none_or(|due| now >= due);
        if due {
            // Postpones the renewal for concurrent callers, which continue with the cached metadata. So only one caller
            // renews at a time.
            state.refresh_at = Some(add_capped(now, REFRESH_TIMEOUT));
        }
        Some((endpoint, due))
    }

    /// Caches a choice for its lifetime.
    fn store(&self, endpoint: ResolvedEndpoint, now: Instant) -> ResolvedEndpoint {
        let mut state = lock(&self.state);
        state.endpoint = Some(endpoint.clone());
        state.refresh_at = Some(add_capped(now, REFRESH_INTERVAL));
        state.failures = 0;
        endpoint
    }

    /// Postpones the next renewal after a failure, with exponential backoff.
    fn back_off(&self, now: Instant, random: f64) {
        let mut state = lock(&self.state);
        state.failures = state.failures.saturating_add(1);
        state.refresh_at = Some(add_capped(now, BACKOFF.wait(state.failures, random)));
    }

    /// Requests the metadata from each URL in turn.
    ///
    /// Only a URL without metadata leads to the next one. A server error, throttling, or metadata of another issuer
    /// fails immediately, because it does not justify trusting a document from another place.
    ///
    /// At most three requests: the configured URL and the two well-known ones.
    ///
    /// # Errors
    ///
    /// The error of the first URL that fails, or [`Discovery`](TokenErrorKind::Discovery) with the response of each
    /// URL.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request in flight. Nothing is cached before the caller stores the result.
    async fn fetch(
        &self,
        transport: &Transport,
        allow_http: bool,
        wall: SystemTime,
    ) -> Result<Metadata, TokenError> {
        let urls = self.issuer.metadata_urls();
        if urls.is_empty() {
            return Err(TokenError::configuration(
                "was not sent: the issuer is not a URL",
            ));
        }
        let mut tried = LookupFailures::default();
        for url in urls {
            let http_response = match transport.send(get(url.clone())).await {
                // The transport reports only a body that is too large this way. Metadata is never that large, so this is
                // another document.
                Err(error) if error.kind() == TokenErrorKind::InvalidResponse => {
                    tried.add_unexpected(&url, "more than 1 MiB");
                    continue;
                }
                http_response => http_response?,
            };
            let status = http_response.status;
            if status.is_success() {
                match Metadata::read(&http_response.body, &self.issuer, allow_http) {
                    Ok(metadata) => return Ok(metadata),
                    Err(MetadataError::Rejected(error)) => return Err(error),
                    Err(MetadataError::NoMetadata(what)) => tried.add_unexpected(&url, what),
                }
            } else if has_no_metadata(status) {
                tried.add_not_found(&url, status);
            } else {
                let error = status_error(&url, status, &tried);
                return Err(response::with_retry_after(
                    error,
                    &http_response.headers,
                    wall,
                ));
            }
        }
        Err(tried.error())
    }
}

/// Returns whether the status means that there is no metadata at a URL. Instead of a 404, some servers send a redirect
/// to a login page, or respond that the method is unknown.
///
/// A 401 or 403 counts too: some servers protect every path that they do not know.
fn has_no_metadata(status: StatusCode) -> bool {
    match status {
        StatusCode::TOO_MANY_REQUESTS => false,
        StatusCode::NOT_IMPLEMENTED => true,
        status => status.is_client_error() || status.is_redirection(),
    }
}

/// URLs without metadata, and the response of each.
#[derive(Default)]
struct LookupFailures {
    /// Description of each response.
    messages: Vec<String>,
    /// Whether a URL responded with content that is not metadata. The error is then transient.
    unexpected: bool,
}

impl LookupFailures {
    /// Records a URL that responded with a status.
    fn add_not_found(&mut self, url: &Uri, status: StatusCode) {
        let url = response::redacted_uri(url);
        self.messages
            .push(format!("{url} returned {}", status.as_u16()));
    }

    /// Records a URL that responded with something other than metadata.
    fn add_unexpected(&mut self, url: &Uri, what: &str) {
        let url = response::redacted_uri(url);
        self.messages.push(format!("{url} returned {what}"));
        self.unexpected = true;
    }

    /// Returns the error if no URL has metadata.
    fn error(&self) -> TokenError {
        TokenError::new(
            TokenErrorKind::Discovery,
            self.unexpected,
            format!(
                "failed during discovery: the server has no metadata for this issuer ({}); check the issuer, or set \
                 the token endpoint with `TokenEndpoint::new`",
                self.messages.join(", ")
            ),
        )
    }
}

/// Builds a request for metadata.
fn get(url: Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = url;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::ACCEPT, json);
    request
        .headers_mut()
        .insert(header::USER_AGENT, super::fetch::USER_AGENT);
    request
}

/// Returns the error for a response that neither contains metadata nor means that there is none.
fn status_error(url: &Uri, status: StatusCode, tried: &LookupFailures) -> TokenError {
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => TokenErrorKind::Throttled,
        status if status.is_server_error() => TokenErrorKind::Server,
        // 1xx and unknown statuses.
        _ => TokenErrorKind::InvalidResponse,
    };
    let url = response::redacted_uri(url);
    let mut text = format!("failed during discovery, at {url}");
    if !tried.messages.is_empty() {
        text.push_str(&format!(", after {}", tried.messages.join(", ")));
    }
    TokenError::new(kind, true, text).with_status(status)
}

/// Interval after which metadata is renewed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(3600);
/// Maximum duration of a renewal.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(5);
/// Backoff between failed renewals: initial and maximum interval.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(600));
