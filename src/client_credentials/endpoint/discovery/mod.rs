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

mod cached;
mod issuer;
mod lookup;
mod metadata;
mod protected_resource;
mod resource;
mod resource_metadata;

use std::{sync::Arc, time::SystemTime};

use tokio::time::timeout_at;

pub use self::protected_resource::ProtectedResource;
use self::{
    cached::{Cached, REFRESH_TIMEOUT},
    issuer::Issuer,
    lookup::{Missing, look_up},
    metadata::Metadata,
};
pub(super) use self::{
    metadata::{CertificateUse, ClientCapabilities, ResolvedEndpoint},
    protected_resource::{Found, ResourceDiscovery},
};
use super::transport::Transport;
use crate::{
    client_credentials::{TokenError, TokenEvent, context::SourceContext},
    clock::add_capped,
};

/// An issuer and its cached metadata. Clones share the cache.
///
/// The cache belongs to the endpoint, not to the process: two endpoints with one issuer fetch its metadata twice, and
/// cannot influence each other.
///
/// `protected_resource` finds the issuer from the API, and then uses one of these.
#[derive(Clone, Debug)]
pub(super) struct Discovery {
    /// The issuer.
    issuer: Issuer,
    /// The last choice of endpoint and method.
    cache: Arc<Cached<ResolvedEndpoint>>,
}

impl Discovery {
    /// Creates a discovery with an empty cache.
    pub(super) fn new(issuer: Arc<str>) -> Self {
        Self {
            issuer: Issuer::new(issuer),
            cache: Arc::default(),
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
        let Some((known, due)) = self.cache.value_and_due(now) else {
            let endpoint = self
                .fetch(transport, allow_http, cx.clock().wall_clock())
                .await?
                .resolve(capabilities)?;
            return Ok(self.cache.store(endpoint, now));
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
            Ok(endpoint) => Ok(self.cache.store(endpoint, now)),
            Err(error) => {
                self.cache.back_off(now, cx.random());
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
        self.cache.value()
    }

    /// Requests the metadata from each URL in turn: the configured one, if there is one, and the well-known
    /// ones.
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
        let missing = Missing {
            what: "failed during discovery: the server has no metadata for this issuer",
            advice: "check the issuer, or set the token endpoint with `TokenEndpoint::new`",
        };
        let read = |body: &[u8]| Metadata::read(body, &self.issuer, allow_http);
        look_up(urls, missing, transport, wall, read).await
    }
}
