//! Discovery of the authorization server from the API that the tokens are for (RFC 9728).
//!
//! ```text
//! GET resource, without a token ─ 401, `resource_metadata` ─▶ GET that URL ─┐
//!              └─ anything else ─▶ GET the well-known URLs ─────────────────┴─▶ issuer ─▶ `Discovery`
//! ```
//!
//! Found once, with the first token, and renewed by a later fetch: after an hour, or when a 401 announces metadata. The
//! authorization server in use stays: renewed metadata may only confirm it. Until its own metadata has been read once, it
//! is not in use, and each fetch asks the API again.

use std::sync::Arc;

use http::{Method, StatusCode, Uri};
use tokio::time::timeout_at;

use super::{
    ClientCapabilities, Discovery, ResolvedEndpoint,
    cached::{Cached, REFRESH_TIMEOUT},
    lookup::{Missing, get, look_up},
    metadata::{changed, excerpt},
    resource::Resource,
    resource_metadata::{IssuerRules, ResourceMetadata},
};
use crate::{
    client_credentials::{
        Challenge, TokenError, TokenErrorKind, TokenEvent, challenge,
        context::SourceContext,
        endpoint::{response::redacted_uri, transport::Transport},
    },
    clock::add_capped,
    store::CacheKey,
    sync::{Mutex, lock},
};

/// An API whose metadata names its authorization server (RFC 9728).
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::ProtectedResource};
///
/// # fn main() -> Result<(), http::uri::InvalidUri> {
/// let resource = ProtectedResource::new("https://api.example.com/mcp".parse()?)
///     .allow_issuer("https://issuer.example")
///     .supported_scopes(true);
/// let endpoint = TokenEndpoint::for_resource(resource, ClientAuth::basic("orders", "secret"));
/// # drop(endpoint);
/// # Ok(())
/// # }
/// ```
#[doc(alias("MCP", "RFC 9728"))]
#[derive(Clone, Debug)]
#[must_use = "pass it to `TokenEndpoint::for_resource`"]
pub struct ProtectedResource {
    /// The resource.
    resource: Resource,
    /// Allowed issuers. None allows all.
    allowed: Vec<Arc<str>>,
    /// Whether the scopes of the metadata are requested. Default: `false`.
    supported_scopes: bool,
    /// Method of the request without a token. Default: `GET`.
    probe: Method,
}

impl ProtectedResource {
    /// Creates a resource from its identifier, an `https://` URL: the `resource` member of its metadata.
    pub fn new(uri: Uri) -> Self {
        Self {
            resource: Resource::new(uri),
            allowed: Vec::new(),
            supported_scopes: false,
            probe: Method::GET,
        }
    }

    /// Allows `issuer` as the authorization server, spelled exactly as the metadata of the resource spells it. Further
    /// calls add more. Default: any that the metadata names.
    ///
    /// Set it whenever you know the issuer. Without it, the API decides which server receives the client's credentials
    /// (RFC 9728 §7.3); a secret is then disclosed to that server. The first allowed issuer in the metadata is used.
    ///
    /// Required if an assertion has an audience that is set, such as by
    /// [`TokenEndpoint::issuer`](crate::TokenEndpoint::issuer): the server that the API chooses could use such an assertion
    /// at the server that it is for.
    pub fn allow_issuer(mut self, issuer: impl Into<Arc<str>>) -> Self {
        self.allowed.push(issuer.into());
        self
    }

    /// Sets whether the `scopes_supported` of the metadata are requested, if neither
    /// [`TokenEndpoint::scope`](crate::TokenEndpoint::scope) nor the API's challenge names scopes. The first 64
    /// are. Default: `false`, which requests the server's default scope.
    pub fn supported_scopes(mut self, supported: bool) -> Self {
        self.supported_scopes = supported;
        self
    }

    /// Sets the method of the request without a token, whose 401 announces the metadata. It has no body. Default: `GET`.
    ///
    /// Set it to `POST` if the API announces metadata at a place of its own, and only in response to a `POST`, as some
    /// MCP servers do. The default changes nothing at any API (RFC 9110 §9.2.1).
    pub fn probe_method(mut self, method: Method) -> Self {
        self.probe = method;
        self
    }

    /// Returns the identifier.
    pub(in crate::client_credentials) fn uri(&self) -> &Uri {
        self.resource.uri()
    }
}

impl From<Uri> for ProtectedResource {
    fn from(uri: Uri) -> Self {
        Self::new(uri)
    }
}

/// A resource and its cached metadata. Clones share the cache.
#[derive(Clone, Debug)]
pub(in super::super) struct ResourceDiscovery {
    /// The resource and its settings.
    settings: ProtectedResource,
    /// What was found.
    cache: Arc<Cached<Arc<Found>>>,
    /// What the API announced. Written by the probe and by a fetch after a 401, and read by a renewal.
    announced: Arc<Mutex<Announced>>,
}

/// What a challenge of the API announces.
#[derive(Clone, Debug, Default)]
struct Announced {
    /// `resource_metadata` of the last challenge that had one (RFC 9728 §5.1).
    url: Option<String>,
    /// `scope` of the first challenge (RFC 6750 §3).
    scopes: Vec<String>,
}

/// The authorization server of a resource.
#[derive(Debug)]
pub(in super::super) struct Found {
    /// The resource, as its metadata spells it.
    pub(in super::super) resource: Arc<str>,
    /// Scopes to request, unless others are configured.
    pub(in super::super) scopes: Vec<String>,
    /// The issuer.
    issuer: Issuer,
    /// The announced URL of the metadata. `None` if it was found at a well-known URL without an announcement.
    announced: Option<String>,
}

/// The issuer in use.
#[derive(Clone, Debug)]
struct Issuer {
    /// Its metadata, which is cached on its own.
    discovery: Discovery,
    /// The issuer as the metadata of the resource spells it, which may be the URL of the issuer's metadata.
    spelling: Arc<str>,
}

impl ResourceDiscovery {
    /// Creates a discovery with an empty cache.
    pub(in super::super) fn new(settings: ProtectedResource) -> Self {
        Self {
            settings,
            cache: Arc::default(),
            announced: Arc::default(),
        }
    }

    /// Returns the identifier of the resource.
    pub(in super::super) fn uri(&self) -> &Uri {
        self.settings.uri()
    }

    /// Returns whether the API alone chooses the issuer.
    pub(in super::super) fn allows_any_issuer(&self) -> bool {
        self.settings.allowed.is_empty()
    }

    /// Takes the URL of the metadata from the challenges of a 401. The metadata is then renewed by the next
    /// [`resolve`](Self::resolve).
    ///
    /// The cooldown of the layer limits how often that happens.
    pub(in super::super) fn on_rejected(&self, challenges: &[Challenge]) {
        let announced = challenges.iter().find_map(Challenge::resource_metadata);
        if let Some(url) = announced {
            lock(&self.announced).url = Some(url.to_owned());
            self.cache.expire();
        }
    }

    /// Returns the endpoints, the authentication method and what was found, from the cache or from newly fetched
    /// metadata.
    ///
    /// The first fetch must succeed. Later, a failed renewal is reported as an event, and what was found stays in use.
    ///
    /// # Errors
    ///
    /// Only while nothing is cached: the error of the request, or of metadata that must not be used.
    ///
    /// # Cancel safety
    ///
    /// As for [`Discovery::resolve`].
    pub(in super::super) async fn resolve(
        &self,
        transport: &Transport,
        capabilities: ClientCapabilities,
        allow_http: bool,
        cx: &SourceContext<'_>,
    ) -> Result<(ResolvedEndpoint, Arc<Found>), TokenError> {
        let now = cx.clock().now();
        let (found, is_new) = match self.cache.value_and_due(now) {
            None => {
                self.probe(transport, cx).await;
                let announced = self.announced_url();
                let metadata = self.fetch(announced.as_deref(), transport, allow_http, cx);
                let metadata = metadata.await?;
                let chosen = Arc::<str>::from(metadata.issuers.first().map_or("", String::as_str));
                let issuer = Issuer {
                    discovery: Discovery::new(Arc::clone(&chosen)),
                    spelling: chosen,
                };
                (self.found(metadata, issuer, announced), true)
            }
            Some((found, false)) => (found, false),
            Some((found, true)) => (self.renew(found, transport, allow_http, cx).await, false),
        };
        let issuer = &found.issuer.discovery;
        let resolved = issuer
            .resolve(transport, capabilities, allow_http, cx)
            .await
            // The error names the issuer, which no setting names.
            .map_err(|error| error.with_endpoint(excerpt(issuer.issuer())))?;
        // An issuer that never had usable metadata must not become the one in use, which renewals only confirm.
        if is_new {
            self.cache.store(Arc::clone(&found), now);
        }
        Ok((resolved, found))
    }

    /// Returns the cached endpoints, if there are any.
    pub(in super::super) fn cached(&self) -> Option<ResolvedEndpoint> {
        self.cache.value()?.issuer.discovery.cached()
    }

    /// Adds the resource and its settings to a cache key.
    pub(in super::super) fn add_to_cache_key(&self, key: CacheKey) -> CacheKey {
        let key = key.field("resource", self.uri().to_string());
        let key = key.field("supported", [u8::from(self.settings.supported_scopes)]);
        let allowed = self.settings.allowed.iter();
        allowed.fold(key, |key, issuer| key.field("allowed", issuer.as_bytes()))
    }

    /// Renews the metadata. Returns `found` if that fails, and reports it.
    async fn renew(
        &self,
        found: Arc<Found>,
        transport: &Transport,
        allow_http: bool,
        cx: &SourceContext<'_>,
    ) -> Arc<Found> {
        let now = cx.clock().now();
        let limit = add_capped(now, REFRESH_TIMEOUT).min(cx.deadline());
        let announced = self.announced_url();
        let metadata = self.fetch(announced.as_deref(), transport, allow_http, cx);
        let renewed = timeout_at(limit, metadata)
            .await
            .unwrap_or_else(|_| Err(TokenError::timeout(REFRESH_TIMEOUT)))
            .and_then(|metadata| {
                let in_use = &*found.issuer.spelling;
                match metadata.issuers.iter().any(|issuer| issuer == in_use) {
                    true => Ok(metadata),
                    false => Err(changed("does not name the authorization server in use")),
                }
            });
        match renewed {
            // The issuer keeps its own metadata.
            Ok(metadata) => {
                let found = self.found(metadata, found.issuer.clone(), announced);
                self.cache.store(found, now)
            }
            Err(error) => {
                self.withdraw(announced.as_deref(), &found);
                self.cache.back_off(now, cx.random());
                let error = error.with_endpoint(redacted_uri(self.uri()));
                cx.emit(|credential| TokenEvent::MetadataRejected {
                    credential,
                    error: &error,
                });
                found
            }
        }
    }

    /// Combines metadata, which was found with the announced URL `announced`, and challenge.
    fn found(
        &self,
        metadata: ResourceMetadata,
        issuer: Issuer,
        announced: Option<String>,
    ) -> Arc<Found> {
        let challenged = lock(&self.announced).scopes.clone();
        let scopes = match challenged.is_empty() && self.settings.supported_scopes {
            true => metadata.scopes,
            false => challenged,
        };
        Arc::new(Found {
            resource: metadata.resource,
            scopes,
            issuer,
            announced,
        })
    }

    /// Returns the announced URL of the metadata.
    fn announced_url(&self) -> Option<String> {
        lock(&self.announced).url.clone()
    }

    /// Replaces `failed`, the announced URL of a failed renewal, with that of the metadata in use, unless another one has
    /// been announced meanwhile.
    ///
    /// The challenge may be that of another resource at the same origin, whose metadata never confirms what is in use.
    fn withdraw(&self, failed: Option<&str>, found: &Found) {
        let mut announced = lock(&self.announced);
        if announced.url.as_deref() == failed {
            announced.url.clone_from(&found.announced);
        }
    }

    /// Requests the resource without a token, and keeps what the challenge of its 401 announces.
    ///
    /// A GET by default, because it changes nothing. Any other response, and none within 5 s, announces nothing: then the
    /// well-known URLs are requested. The body is not read, because it may never end.
    async fn probe(&self, transport: &Transport, cx: &SourceContext<'_>) {
        let limit = add_capped(cx.clock().now(), REFRESH_TIMEOUT).min(cx.deadline());
        let mut request = get(self.uri().clone());
        *request.method_mut() = self.settings.probe.clone();
        let response = transport.send_for_headers(request);
        let Ok(Ok(response)) = timeout_at(limit, response).await else {
            return;
        };
        if response.status != StatusCode::UNAUTHORIZED {
            return;
        }
        let challenges = challenge::challenges(&response.headers, None);
        let scopes = challenges.iter().find_map(Challenge::scope);
        let announced = Announced {
            url: challenges
                .iter()
                .find_map(Challenge::resource_metadata)
                .map(str::to_owned),
            scopes: scopes
                .unwrap_or_default()
                .split_ascii_whitespace()
                .map(str::to_owned)
                .collect(),
        };
        *lock(&self.announced) = announced;
    }

    /// Requests the metadata: from the URL that is `announced`, or else from the well-known ones.
    ///
    /// An announced URL at another origin is an error, and not a reason to try the well-known ones: a wrong document at
    /// one place must not be hidden by another place.
    async fn fetch(
        &self,
        announced: Option<&str>,
        transport: &Transport,
        allow_http: bool,
        cx: &SourceContext<'_>,
    ) -> Result<ResourceMetadata, TokenError> {
        let resource = &self.settings.resource;
        let mut urls = resource.well_known_urls();
        if let Some(announced) = announced {
            let url = resource.announced_url(announced).ok_or_else(|| {
                TokenError::new(
                    TokenErrorKind::Discovery,
                    false,
                    format!(
                        "failed during discovery: the challenge of the resource names metadata at another origin, \
                         {:?}; if that is correct, configure the issuer with `TokenEndpoint::discover`",
                        excerpt(announced)
                    ),
                )
            })?;
            urls.retain(|known| *known != url);
            urls.insert(0, url);
        }
        let missing = Missing {
            what: "failed during discovery: the resource has no metadata",
            advice: "check the URL of the resource, or set the issuer with `TokenEndpoint::discover`",
        };
        let rules = IssuerRules {
            allowed: &self.settings.allowed,
            http: allow_http,
        };
        let read = |body: &[u8]| ResourceMetadata::read(body, resource, rules);
        look_up(urls, missing, transport, cx.clock().wall_clock(), read).await
    }
}
