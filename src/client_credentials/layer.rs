//! The layer and its builder.

use std::{fmt, panic::Location, sync::Arc, time::Duration};

use http::{HeaderName, Uri, header, uri::PathAndQuery};
use tower_layer::Layer;

use super::{
    BoxTokenSource, ClientAuth, ClientCredentials, ExistingCredential, ForeignOrigin, HostMismatch,
    ProtectedResource, TokenEndpoint, TokenEvent, TokenHandle, TokenScope, TokenSource, TokenStore,
    auth::Auth,
    authorize::Authorizer,
    cache::TokenCache,
    event::TokenEvents,
    policy::AuthPolicy,
    proof_servers::ProofServers,
    refresher::Refresher,
    scoped_source::ScopedSource,
    scoped_tokens::ScopedTokens,
    settings::Settings,
    step_up::LearnedScopes,
    store::{BoxTokenStore, SharingSettings, TokenSharing},
};
use crate::{
    Clock, InvalidOrigin, Origin,
    clock::SharedClock,
    inner_service::InnerService,
    misuse::{SetOnce, Usage},
    sharded::Sharded,
    sinks::Sinks,
};

/// Adds an access token to each request, refreshes the token, and replays a request once if its token was rejected.
///
/// All services made by a layer and its clones share one token. See the [module](super) for the guarantees.
///
/// Build one layer for each credential and keep it for the lifetime of the program. A layer that is built per request
/// has no token to share, and each request causes a token request; [`TokenEvent::Misused`] reports that.
///
/// Place it around the client and inside of retries and time limits: each attempt then carries a valid token, and the
/// time limit covers the wait for one. To combine it with rate limits, use [`M2mLayer`](crate::M2mLayer).
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, ClientCredentialsLayer, TokenEndpoint};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let endpoint = TokenEndpoint::new(
///     "https://issuer.example/oauth/token".parse()?,
///     ClientAuth::basic("my-client", "my-secret"),
/// );
/// let layer =
///     ClientCredentialsLayer::builder(endpoint, "https://api.example.com".parse()?).build();
/// # drop(layer);
/// # Ok(())
/// # }
/// ```
#[doc(alias("OAuth", "OAuth2", "bearer token", "Authorization", "401"))]
#[derive(Clone, Debug)]
pub struct ClientCredentialsLayer {
    /// One policy per thread. All share one token cache.
    policies: Sharded<AuthPolicy>,
}

impl ClientCredentialsLayer {
    /// Creates a builder for a layer that gets tokens from `source` and sends them to `origin`, the two settings
    /// without a safe default.
    pub fn builder(source: impl TokenSource, origin: Origin) -> ClientCredentialsLayerBuilder {
        ClientCredentialsLayerBuilder {
            source: BoxTokenSource::new(source),
            origins: vec![origin],
            assumed: None,
            allow_http: false,
            foreign: ForeignOrigin::default(),
            host: HostMismatch::default(),
            existing: ExistingCredential::default(),
            header: None,
            scheme: None,
            credential: None,
            refresh_before: Duration::from_secs(30),
            fetch_timeout: Duration::from_secs(30),
            max_token_backoff: Duration::from_secs(300),
            refresh_cooldown: Duration::from_secs(10),
            max_waiting: MAX_WAITING,
            replay: true,
            step_up: false,
            max_token_scopes: MAX_TOKEN_SCOPES,
            store: None,
            sharing: SharingSettings::default(),
            clock: SharedClock::default(),
            seed: None,
            sinks: Sinks::default(),
            set_once: SetOnce::default(),
        }
    }

    /// Creates a builder for a layer whose authorization server is found by the API (RFC 9728): the metadata of
    /// `resource` names it. The token is sent to the origin of `resource`.
    ///
    /// Shorthand for [`builder`](Self::builder) with [`TokenEndpoint::for_resource`], which describes the discovery. Use
    /// these for further settings of the endpoint.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`], if `resource` is not an absolute URL, or contains user information.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{
    ///     ClientAuth, ClientCredentialsLayer, client_credentials::ProtectedResource,
    /// };
    ///
    /// # fn main() -> Result<(), tower_m2m::BoxError> {
    /// let resource = ProtectedResource::new("https://api.example.com/mcp".parse()?)
    ///     .allow_issuer("https://issuer.example");
    /// let auth = ClientAuth::basic("orders", "secret");
    /// let layer = ClientCredentialsLayer::for_resource(resource, auth)?.build();
    /// # drop(layer);
    /// # Ok(())
    /// # }
    /// ```
    pub fn for_resource(
        resource: impl Into<ProtectedResource>,
        auth: ClientAuth,
    ) -> Result<ClientCredentialsLayerBuilder, InvalidOrigin> {
        let resource = resource.into();
        let mut origin = resource.uri().clone().into_parts();
        origin.path_and_query = origin
            .scheme
            .is_some()
            .then(|| PathAndQuery::from_static("/"));
        let origin = Uri::from_parts(origin).unwrap_or_default();
        let endpoint = TokenEndpoint::for_resource(resource, auth);
        Ok(Self::builder(endpoint, origin.try_into()?))
    }

    /// Returns a handle to the tokens of this layer, for everything other than requests through it.
    ///
    /// Handles may be created at any time. They keep the tokens alive after the layer was dropped.
    #[must_use]
    pub fn handle(&self) -> TokenHandle {
        TokenHandle::new(Arc::clone(&self.policies.local().auth.refresher))
    }

    /// Returns the tokens and rules of this layer, for a combined layer.
    pub(crate) fn into_auth(self) -> Arc<Auth> {
        Arc::clone(&self.policies.local().auth)
    }
}

impl<S: InnerService> Layer<S> for ClientCredentialsLayer {
    type Service = ClientCredentials<S>;

    fn layer(&self, inner: S) -> Self::Service {
        // Reports a layer of this crate inside `S` that this one must not surround.
        let exchange = &self.policies.local().auth;
        exchange.report(exchange.usage.credentials_around::<S>());
        ClientCredentials::new(inner, self.policies.clone())
    }
}

/// Builder of a [`ClientCredentialsLayer`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::{ClientCredentialsLayer, client_credentials::{AccessToken, TokenEvent}};
///
/// # fn main() -> Result<(), tower_m2m::InvalidOrigin> {
/// # let source = AccessToken::new("key");
/// let layer = ClientCredentialsLayer::builder(source, "https://api.example.com".parse()?)
///     .allow_origin("https://uploads.example.com".parse()?)
///     .name("orders")
///     .refresh_before(Duration::from_secs(60))
///     .on_event(|event| {
///         if let TokenEvent::FetchFailed { error, .. } = event {
///             eprintln!("{error}");
///         }
///     })
///     .build();
/// # drop(layer);
/// # Ok(())
/// # }
/// ```
#[must_use = "settings do nothing until `build()`"]
pub struct ClientCredentialsLayerBuilder {
    /// Source of new tokens.
    source: BoxTokenSource,
    /// Allowed origins, at least one.
    origins: Vec<Origin>,
    /// Origin of requests whose URI has no host.
    assumed: Option<Origin>,
    /// Whether plain http is allowed to hosts other than loopback.
    allow_http: bool,
    /// Action for requests to other origins.
    foreign: ForeignOrigin,
    /// Action for requests whose `Host` header differs from their URI.
    host: HostMismatch,
    /// Action for requests that already carry a credential.
    existing: ExistingCredential,
    /// Header that carries the token; `None` for `Authorization`.
    header: Option<HeaderName>,
    /// Scheme before the token; `None` for the default of the header.
    scheme: Option<Box<str>>,
    /// Name of the credential in errors and events.
    credential: Option<Arc<str>>,
    /// How long before its expiry a token is refreshed.
    refresh_before: Duration,
    /// Time limit of one fetch.
    fetch_timeout: Duration,
    /// Upper bound on the `Retry-After` of a token endpoint.
    max_token_backoff: Duration,
    /// Minimum time between refreshes that 401s of one origin cause.
    refresh_cooldown: Duration,
    /// Maximum number of callers that wait for a token.
    max_waiting: usize,
    /// Whether requests are replayed after a 401.
    replay: bool,
    /// Whether further scopes are requested after a challenge that names them.
    step_up: bool,
    /// Maximum number of tokens for other scopes.
    max_token_scopes: usize,
    /// Store for sharing tokens with other processes.
    store: Option<BoxTokenStore>,
    /// Settings of the store.
    sharing: SharingSettings,
    /// Source of time.
    clock: SharedClock,
    /// Seed of the jitter; `None` for a random one.
    seed: Option<u64>,
    /// Receivers of events.
    sinks: Sinks<TokenEvents>,
    /// Detects settings that are set twice.
    set_once: SetOnce,
}

impl ClientCredentialsLayerBuilder {
    /// Allows the token to be sent to `origin` as well. May be called several times. Default: only the origin passed to
    /// [`ClientCredentialsLayer::builder`].
    ///
    /// An origin is scheme, host and port. Subdomains and other ports have to be allowed one by one; there are no
    /// patterns, because a pattern that is too wide discloses the token.
    pub fn allow_origin(mut self, origin: Origin) -> Self {
        if !self.origins.contains(&origin) {
            self.origins.push(origin);
        }
        self
    }

    /// Sets the destination of requests whose URI has no host, and allows the token to be sent there. For inner
    /// services with exactly one fixed destination: tonic channels, the hooks of kube and octocrab, an in-process
    /// router. Default: such requests are refused.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{ClientCredentialsLayer, client_credentials::AccessToken};
    ///
    /// # fn main() -> Result<(), tower_m2m::InvalidOrigin> {
    /// # let source = AccessToken::new("key");
    /// // For a tonic channel to https://grpc.example.com.
    /// let origin: tower_m2m::Origin = "https://grpc.example.com".parse()?;
    /// let layer = ClientCredentialsLayer::builder(source, origin.clone())
    ///     .assume_origin(origin)
    ///     .build();
    /// # drop(layer);
    /// # Ok(())
    /// # }
    /// ```
    pub fn assume_origin(mut self, origin: Origin) -> Self {
        self.set_once.record("assume_origin");
        self.assumed = Some(origin.clone());
        self.allow_origin(origin)
    }

    /// Allows the token to be sent over plain http to hosts other than loopback. Anyone on the network path can read
    /// and use it. Default: refused.
    ///
    /// For test servers in a private network. Loopback needs no permission. The token endpoint has a [setting of its
    /// own](crate::TokenEndpoint::dangerously_allow_http).
    pub fn dangerously_allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }

    /// Sets the action for requests to other origins. Default: [`ForeignOrigin::Refuse`].
    ///
    /// Change it if one client serves several APIs, of which only some take this token.
    pub fn on_foreign_origin(mut self, foreign: ForeignOrigin) -> Self {
        self.foreign = foreign;
        self
    }

    /// Sets the action for requests whose `Host` header differs from their URI. Default: [`HostMismatch::Refuse`].
    ///
    /// Change it if a proxy or a framework sets the header before this layer.
    pub fn on_host_mismatch(mut self, mismatch: HostMismatch) -> Self {
        self.host = mismatch;
        self
    }

    /// Sets the action for requests that already carry a credential. Default: [`ExistingCredential::Replace`].
    ///
    /// Change it if some requests carry the credential of a user, which must not be replaced.
    pub fn on_existing_credential(mut self, existing: ExistingCredential) -> Self {
        self.existing = existing;
        self
    }

    /// Sends the token in `header`, such as `x-api-key`, without a scheme. Default: `Authorization`, with `Bearer`.
    ///
    /// To send a scheme too, also set [`scheme`](Self::scheme).
    ///
    /// # Examples
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_m2m::{ClientCredentialsLayer, client_credentials::AccessToken};
    ///
    /// # fn main() -> Result<(), tower_m2m::InvalidOrigin> {
    /// let key = AccessToken::new("key");
    /// let layer = ClientCredentialsLayer::builder(key, "https://api.example.com".parse()?)
    ///     .header(HeaderName::from_static("x-api-key"))
    ///     .build();
    /// # drop(layer);
    /// # Ok(())
    /// # }
    /// ```
    pub fn header(mut self, header: HeaderName) -> Self {
        self.header = Some(header);
        self
    }

    /// Sends `scheme` and a space before the token. Default: `Bearer` in `Authorization`, none in other headers.
    ///
    /// The scheme also decides which challenges of a 401 are about the token. Without one, every 401 is.
    pub fn scheme(mut self, scheme: impl Into<Box<str>>) -> Self {
        self.scheme = Some(scheme.into());
        self
    }

    /// Sets the credential's name, which appears in errors and events. Do not use a secret, and avoid the client id.
    /// Default: none.
    ///
    /// Set it if the program has several credentials: without it their errors, events and metrics cannot be
    /// distinguished.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.credential = Some(name.into());
        self
    }

    /// Sets how long before its expiry a token is refreshed. Requests use it meanwhile. Default: 30 s.
    ///
    /// At most a fifth of the token's lifetime (for a lifetime of 2 s to 5 s, the last second). Jitter of at most a
    /// twentieth of the lifetime is added, so that the processes of a fleet spread out.
    ///
    /// Raise it if token requests are slow or the clocks of the APIs are ahead. A value longer than a fifth of the
    /// lifetime has no further effect.
    pub fn refresh_before(mut self, margin: Duration) -> Self {
        self.refresh_before = margin;
        self
    }

    /// Sets the time limit of one fetch, including all its attempts. Default: 30 s.
    ///
    /// The first attempt of a [`TokenEndpoint`](crate::TokenEndpoint) gets half of it, if retries are allowed. Requests
    /// without a token wait for that long at most before they fail; their own time limit may be shorter.
    pub fn fetch_timeout(mut self, limit: Duration) -> Self {
        self.fetch_timeout = limit;
        self
    }

    /// Sets the upper bound on the `Retry-After` of a token endpoint. Longer values are shortened to it. Default: 5
    /// min.
    ///
    /// Lower it if a server asks for waits that are longer than an outage may last. It does not limit the back-off of
    /// the layer itself, which is at most 10 min.
    pub fn max_token_backoff(mut self, longest: Duration) -> Self {
        self.max_token_backoff = longest;
        self
    }

    /// Sets the minimum time between two refreshes that 401s of the same origin cause. A 401 of another origin can
    /// cause one a second later. Default: 10 s.
    ///
    /// The cooldown of an origin doubles, up to 10 min, each time the origin rejects the new token as well without
    /// having accepted it. It never exceeds half of the token's lifetime.
    pub fn refresh_cooldown(mut self, cooldown: Duration) -> Self {
        self.refresh_cooldown = cooldown;
        self
    }

    /// Sets the maximum number of callers that wait for a token, at least 1. Default: 100,000.
    ///
    /// Each waiting caller keeps its request in memory. Further callers receive a [`TokenError`](super::TokenError) of
    /// the kind [`QueueFull`](super::TokenErrorKind::QueueFull) at once, or the 401 if they have one.
    ///
    /// Lower it if requests are large, so that an outage of the issuer does not exhaust the memory.
    pub fn max_waiting(mut self, limit: usize) -> Self {
        // The caller that runs a fetch waits for it too.
        self.max_waiting = limit.max(1);
        self
    }

    /// Sets whether a request whose token was rejected is sent once more with a new one, if its body can be sent again.
    /// Default: `true`.
    ///
    /// With `false`, requests are not copied, but the token is still refreshed.
    ///
    /// Set it to `false` to save the copy of each request, if the API practically never rejects a valid token.
    pub fn replay(mut self, replay: bool) -> Self {
        self.replay = replay;
        self
    }

    /// Sets whether the layer requests the further scopes that an API requires: after a 403, or a 401, with
    /// `error="insufficient_scope"` and `scope` (RFC 6750 §3.1). Default: `false`.
    ///
    /// One token with the scopes of the credential and those of the challenge is then requested, and the request is
    /// sent once more, if its body can be sent again. At most 32 such scopes are kept, and requested with each later
    /// token. If the authorization server rejects them, they are not requested again. The
    /// [cooldown](Self::refresh_cooldown) limits the token requests for an API that sends such a challenge every time.
    /// [`TokenEvent::Rejected`] reports each one.
    ///
    /// An API then decides which scopes the token has, within what the authorization server allows the client. Leave it
    /// off if a token should have no more than you configure. A challenge that requires a user (RFC 9470) is returned.
    pub fn step_up(mut self, step_up: bool) -> Self {
        self.step_up = step_up;
        self
    }

    /// Sets the maximum number of tokens that are kept for requests with a [`TokenScope`](super::TokenScope). At least
    /// one is kept. Default: 64.
    ///
    /// A further one evicts the least recently used one, and all that were not used for an hour.
    pub fn max_token_scopes(mut self, limit: usize) -> Self {
        self.max_token_scopes = limit;
        self
    }

    /// Shares tokens with other processes through `store`. Default: none.
    ///
    /// The store is read only when a token is due; requests use the token in their own process. One process takes a
    /// lease and fetches, and the others wait for its token. A token that an API rejected is removed for all processes,
    /// and they share the cooldown of such refreshes. A failing store costs at most one token request per process and
    /// one [`StoreFailed`](TokenEvent::StoreFailed).
    ///
    /// Processes share tokens if their [`cache_key`](TokenSource::cache_key) is the same, that is, if they
    /// have the same configuration: endpoint, client, secret, scopes and everything else. These tokens are not shared:
    ///
    /// - tokens of a source without a cache key (your own, or one with your own
    ///   [`ClientAuthentication`](super::ClientAuthentication))
    /// - tokens bound to a key, except one that the processes have in common (`Dpop::key`), or to a certificate that
    ///   only your HTTP client knows
    /// - tokens that do not expire
    /// - tokens that were obtained with an older secret
    ///
    /// A source that revokes tokens on shutdown
    /// ([`TokenEndpoint::revoke_on_shutdown`](crate::TokenEndpoint::revoke_on_shutdown)) cannot be used with a store,
    /// because other processes would still use the token: each fetch fails with a permanent
    /// [`TokenError`](super::TokenError).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "test-util")] {
    /// use tower_m2m::{
    ///     ClientAuth, ClientCredentialsLayer, TokenEndpoint, test_util::MemoryTokenStore,
    /// };
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let endpoint = TokenEndpoint::new(
    ///     "https://issuer.example/oauth/token".parse()?,
    ///     ClientAuth::basic("my-client", "my-secret"),
    /// );
    /// let layer = ClientCredentialsLayer::builder(endpoint, "https://api.example.com".parse()?)
    ///     .store(MemoryTokenStore::new())
    ///     .build();
    /// # drop(layer);
    /// # Ok(())
    /// # }
    /// # main().unwrap();
    /// # }
    /// ```
    pub fn store(mut self, store: impl TokenStore) -> Self {
        self.set_once.record("store");
        self.store = Some(BoxTokenStore::new(store));
        self
    }

    /// Sets the lifetime of the lease, which is how long a process that died while fetching blocks the others. A
    /// running process renews its lease. At least 10 ms, at most 24 h. Default: 5 s.
    pub fn store_lease(mut self, length: Duration) -> Self {
        self.sharing.set_lease(length);
        self
    }

    /// Sets the time limit of each request to the [`store`](Self::store). Default: 500 ms.
    ///
    /// A fetch makes at most seven calls one after the other, plus two for each lookup while another process fetches.
    pub fn store_timeout(mut self, limit: Duration) -> Self {
        self.sharing.timeout = limit;
        self
    }

    /// Sets the maximum lifetime of tokens that are written to or read from the [`store`](Self::store). Default: 24 h.
    ///
    /// A token in the store that claims a longer lifetime is ignored. The bound limits the harm of an entry that
    /// another program wrote, and of a token that was stolen from the store.
    pub fn store_max_lifetime(mut self, longest: Duration) -> Self {
        self.sharing.max_lifetime = longest;
        self
    }

    /// Sets the clock. Default: [`SystemClock`](crate::SystemClock).
    ///
    /// For tests, and for programs that simulate time. Time limits and waits use tokio's time, which a test pauses.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Sets the seed of the jitter, which makes it repeatable. Default: random.
    ///
    /// For tests: with the same seed and the same events, refreshes and back-offs happen at the same times.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Calls `sink` for each [`TokenEvent`]. Each call adds another sink. Default: none.
    ///
    /// It runs on the task that caused the event, outside every lock, and should return soon. Its panics are caught.
    ///
    /// A sink must not block: it delays the task that runs the fetch, or the request. Hand the event to a channel for
    /// slow work.
    pub fn on_event(mut self, sink: impl Fn(&TokenEvent<'_>) + Send + Sync + 'static) -> Self {
        self.sinks.add(sink);
        self
    }

    /// Builds the layer. Sends nothing: a request or [`TokenHandle::prefetch`] fetches the first token.
    ///
    /// Wrong settings of the source are errors of the first fetch; see
    /// [`TokenEndpoint::validate`](crate::TokenEndpoint::validate).
    #[must_use]
    #[track_caller]
    pub fn build(self) -> ClientCredentialsLayer {
        let name = self.credential.clone();
        // The caller's location identifies layers that are built for single requests.
        let (usage, misuse) = Usage::begin("credentials", Location::caller(), name);
        // Headers such as `x-api-key` carry the token alone. The order of both settings does not matter.
        let bearer = || self.header.is_none().then(|| "Bearer".into());
        let scheme = self.scheme.or_else(bearer);
        let settings = Settings {
            credential: self.credential,
            refresh_before: self.refresh_before,
            fetch_timeout: self.fetch_timeout,
            max_token_backoff: self.max_token_backoff,
            refresh_cooldown: self.refresh_cooldown,
            max_waiting: self.max_waiting,
            scheme,
        };
        let mut sinks = self.sinks;
        // After the program's sinks, which therefore see each event first.
        crate::telemetry::install_token_sinks(&mut sinks, &self.clock);
        let now = self.clock.now();
        let sharing = self
            .store
            .map(|store| TokenSharing::new(store, self.sharing, &self.origins))
            .map(Arc::new);
        let (source, clock, origins, seed) =
            (self.source, self.clock, self.origins.len(), self.seed);
        let step_up = self.step_up;
        let make = move |scope: &TokenScope| {
            let learned = step_up.then(|| Arc::new(LearnedScopes::default()));
            let source = match scope.is_empty() && learned.is_none() {
                true => source.clone(),
                false => BoxTokenSource::new(ScopedSource::new(
                    source.clone(),
                    scope.clone(),
                    learned.clone(),
                )),
            };
            let cache = TokenCache::new(settings.scoped(scope), origins, seed, clock.now());
            let (sharing, clock, sinks) = (sharing.clone(), clock.clone(), sinks.clone());
            Refresher::new(cache, source, sharing, clock, sinks, learned)
        };
        let tokens = make(&TokenScope::new());
        let scoped = ScopedTokens::new(make, self.max_token_scopes, now);
        let tokens = tokens.with_scoped(scoped);
        let authorizer = Authorizer {
            origins: self.origins,
            assumed: self.assumed,
            allow_http: self.allow_http,
            foreign: self.foreign,
            host: self.host,
            existing: self.existing,
            header: self.header.unwrap_or(header::AUTHORIZATION),
        };
        let exchange = Arc::new(Auth {
            refresher: Arc::new(tokens),
            authorizer,
            replay: self.replay,
            step_up,
            usage,
            proof_servers: ProofServers::default(),
        });
        // Reported last, when all sinks are in place.
        exchange.report(misuse.or(self.set_once.misuse()));
        ClientCredentialsLayer {
            policies: Sharded::new(|| AuthPolicy::new(Arc::clone(&exchange))),
        }
    }
}

impl fmt::Debug for ClientCredentialsLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentialsLayerBuilder")
            .field("origins", &self.origins)
            .finish_non_exhaustive()
    }
}

/// Default maximum number of tokens for other scopes.
const MAX_TOKEN_SCOPES: usize = 64;
/// Default maximum number of callers that wait for a token.
const MAX_WAITING: usize = 100_000;
