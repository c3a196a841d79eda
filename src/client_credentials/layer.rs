//! The layer and its settings.

use std::{fmt, panic::Location, sync::Arc, time::Duration};

use http::{HeaderName, header};
use tower_layer::Layer;

use super::{
    ClientCredentials, ExistingCredential, ForeignOrigin, HostMismatch, SharedTokenSource,
    TokenEvent, TokenHandle, TokenSource, TokenStore,
    authorize::Authorizer,
    cell::TokenCell,
    event::TokenEvents,
    exchange::Exchange,
    policy::AuthPolicy,
    settings::Settings,
    store::{SharedTokenStore, SharingSettings, TokenSharing},
    tokens::Tokens,
};
use crate::{Clock, Origin, clock::SharedClock, misuse::Usage, sharded::Sharded, sinks::Sinks};

/// Puts an access token onto each request, renews it, and replays a request once whose token was refused.
///
/// All services that a layer and its clones make share one token. See the [module](super) for what is promised.
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
/// let layer = ClientCredentialsLayer::builder(endpoint, "https://api.example.com".parse()?).build();
/// # drop(layer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClientCredentialsLayer {
    policies: Sharded<AuthPolicy>,
}

impl ClientCredentialsLayer {
    /// A layer that gets tokens from `source` and lets them go to `origin`: the two things that have no safe default.
    pub fn builder(source: impl TokenSource, origin: Origin) -> ClientCredentialsLayerBuilder {
        ClientCredentialsLayerBuilder {
            source: SharedTokenSource::new(source),
            origins: vec![origin],
            assumed: None,
            allow_http: false,
            foreign: ForeignOrigin::default(),
            host: HostMismatch::default(),
            existing: ExistingCredential::default(),
            header: header::AUTHORIZATION,
            scheme: Some("Bearer".into()),
            credential: None,
            refresh_before: Duration::from_secs(30),
            fetch_timeout: Duration::from_secs(30),
            max_token_backoff: Duration::from_secs(300),
            refresh_cooldown: Duration::from_secs(10),
            max_waiting: MAX_WAITING,
            replay: true,
            store: None,
            sharing: SharingSettings::default(),
            clock: SharedClock::default(),
            seed: None,
            sinks: Sinks::default(),
        }
    }

    /// The tokens of this layer, for everything that is not a request through it.
    #[must_use]
    pub fn handle(&self) -> TokenHandle {
        TokenHandle::new(Arc::clone(&self.policies.here().auth.tokens))
    }

    pub(crate) fn into_exchange(self) -> Arc<Exchange> {
        Arc::clone(&self.policies.here().auth)
    }
}

impl<S> Layer<S> for ClientCredentialsLayer {
    type Service = ClientCredentials<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let exchange = &self.policies.here().auth;
        exchange.report(exchange.usage.credentials_around::<S>());
        ClientCredentials::new(inner, self.policies.clone())
    }
}

/// The settings of a [`ClientCredentialsLayer`].
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
    source: SharedTokenSource,
    origins: Vec<Origin>,
    assumed: Option<Origin>,
    allow_http: bool,
    foreign: ForeignOrigin,
    host: HostMismatch,
    existing: ExistingCredential,
    header: HeaderName,
    scheme: Option<Box<str>>,
    credential: Option<Arc<str>>,
    refresh_before: Duration,
    fetch_timeout: Duration,
    max_token_backoff: Duration,
    refresh_cooldown: Duration,
    max_waiting: usize,
    replay: bool,
    store: Option<SharedTokenStore>,
    sharing: SharingSettings,
    clock: SharedClock,
    seed: Option<u64>,
    sinks: Sinks<TokenEvents>,
}

impl ClientCredentialsLayerBuilder {
    /// Lets the token go to `origin` as well. May be called again. Default: only the origin given to
    /// [`ClientCredentialsLayer::builder`].
    pub fn allow_origin(mut self, origin: Origin) -> Self {
        if !self.origins.contains(&origin) {
            self.origins.push(origin);
        }
        self
    }

    /// Says where requests go whose URI names no host: for inner services that have exactly one fixed destination
    /// (tonic channels, kube's and octocrab's hooks, an in-process router). The token may go there. Default: such
    /// requests are refused.
    pub fn assume_origin(mut self, origin: Origin) -> Self {
        self.assumed = Some(origin.clone());
        self.allow_origin(origin)
    }

    /// Lets the token travel over plain http to hosts other than loopback. Anybody on the way can read and use it.
    pub fn dangerously_allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }

    /// What happens to requests for other origins. Default: [`ForeignOrigin::Refuse`].
    pub fn on_foreign_origin(mut self, foreign: ForeignOrigin) -> Self {
        self.foreign = foreign;
        self
    }

    /// What happens to requests whose `Host` header differs from their URI. Default: [`HostMismatch::Refuse`].
    pub fn on_host_mismatch(mut self, mismatch: HostMismatch) -> Self {
        self.host = mismatch;
        self
    }

    /// What happens to requests that already carry a credential. Default: [`ExistingCredential::Replace`].
    pub fn on_existing_credential(mut self, existing: ExistingCredential) -> Self {
        self.existing = existing;
        self
    }

    /// Sends the token in `header`, bare, rather than as `Authorization: Bearer`: `x-api-key`, for example.
    ///
    /// Set a [`scheme`](Self::scheme) afterwards to have one in front of it.
    pub fn header(mut self, header: HeaderName) -> Self {
        self.header = header;
        self.scheme = None;
        self
    }

    /// Sends `scheme` and a space in front of the token. Default: `Bearer` in `Authorization`, none in other headers.
    pub fn scheme(mut self, scheme: impl Into<Box<str>>) -> Self {
        self.scheme = Some(scheme.into());
        self
    }

    /// The credential's name in errors and events; not a secret, and better not the client id. Default: none.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.credential = Some(name.into());
        self
    }

    /// How long before its end a token is renewed, while requests go on with it. Default: 30 s, but at most a fifth of
    /// the token's life (of 2 s to 5 s, the last second); and earlier by a random share of that, so that a fleet spreads
    /// out.
    pub fn refresh_before(mut self, lead: Duration) -> Self {
        self.refresh_before = lead;
        self
    }

    /// How long one fetch of a token may take, with all its attempts. Default: 30 s.
    pub fn fetch_timeout(mut self, limit: Duration) -> Self {
        self.fetch_timeout = limit;
        self
    }

    /// Up to which length a token endpoint's `Retry-After` is believed. Default: 5 min.
    pub fn max_token_backoff(mut self, longest: Duration) -> Self {
        self.max_token_backoff = longest;
        self
    }

    /// How soon after a refresh that a 401 brought about the next one may follow for a 401 of the same origin; for other
    /// origins, a second later. It doubles for that origin, up to 10 min, each time that the new token is refused there as
    /// well without having been accepted. It never lasts longer than half of the token's life. Default: 10 s.
    pub fn refresh_cooldown(mut self, cooldown: Duration) -> Self {
        self.refresh_cooldown = cooldown;
        self
    }

    /// How many callers may wait for a token at once; at least 1. Those beyond it get a [`TokenError`](super::TokenError)
    /// of the kind [`TooManyWaiting`](super::TokenErrorKind::TooManyWaiting) at once, or the 401 if they have one. Each
    /// keeps its request in memory while it waits. Default: 100,000.
    pub fn max_waiting(mut self, limit: usize) -> Self {
        self.max_waiting = limit.max(1);
        self
    }

    /// Whether a request whose token was refused is sent once more with a new one, if its body allows. Default: `true`.
    /// With `false` no copies of requests are made; the token is renewed all the same.
    pub fn replay(mut self, replay: bool) -> Self {
        self.replay = replay;
        self
    }

    /// Shares tokens with the other processes of a fleet through `store`. Default: none.
    ///
    /// The store is asked only when a token is due; requests read the token in their own process. One process takes the
    /// lease and fetches, the others wait for what it brings. A token that an API refused is removed for all, and the
    /// cooldown of such refreshes is shared. A store that fails costs at most one token request of each process, and one
    /// [`StoreFailed`](TokenEvent::StoreFailed).
    ///
    /// Tokens are shared between processes whose [`cache_identity`](TokenSource::cache_identity) is the same, that is, whose
    /// configuration is: endpoint, client, secret, scopes and all else. Not shared are tokens of a source that has none
    /// (of your own, or with a [`ClientAuthentication`](super::ClientAuthentication) of your own); those that are bound to
    /// a key, or to a certificate that only your HTTP client knows; those that do not expire; and those of an attempt for
    /// which an older secret was used.
    ///
    /// A source that revokes tokens on shutdown
    /// ([`TokenEndpoint::revoke_on_shutdown`](crate::TokenEndpoint::revoke_on_shutdown)) is asked for none, because they
    /// would be in use elsewhere: each fetch fails with a permanent [`TokenError`](super::TokenError).
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
        self.store = Some(SharedTokenStore::new(store));
        self
    }

    /// How long a process that died while it fetched keeps the others waiting. One that lives renews its lease. At least
    /// 10 ms, at most 24 h. Default: 5 s.
    pub fn store_lease(mut self, length: Duration) -> Self {
        self.sharing.set_lease(length);
        self
    }

    /// How long the [`store`](Self::store) may take for each answer. Default: 500 ms.
    pub fn store_timeout(mut self, limit: Duration) -> Self {
        self.sharing.timeout = limit;
        self
    }

    /// Tokens that live for longer are neither stored nor taken from the [`store`](Self::store). Default: 24 h.
    pub fn store_max_lifetime(mut self, longest: Duration) -> Self {
        self.sharing.max_lifetime = longest;
        self
    }

    /// Where the time is read. Default: [`SystemClock`](crate::SystemClock).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Makes the jitter repeatable. Default: a random seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Calls `sink` for each [`TokenEvent`]. May be called again to add more. It runs on the task that caused the
    /// event, outside every lock, and should return soon; its panics are caught.
    pub fn on_event(mut self, sink: impl Fn(&TokenEvent<'_>) + Send + Sync + 'static) -> Self {
        self.sinks.add(sink);
        self
    }

    /// The layer. Sends nothing: the first token is fetched when a request needs it, or by
    /// [`TokenHandle::warm`].
    #[must_use]
    #[track_caller]
    pub fn build(self) -> ClientCredentialsLayer {
        let name = self.credential.clone();
        let (usage, misuse) = Usage::begin("credentials", Location::caller(), name);
        let settings = Settings {
            credential: self.credential,
            refresh_before: self.refresh_before,
            fetch_timeout: self.fetch_timeout,
            max_token_backoff: self.max_token_backoff,
            refresh_cooldown: self.refresh_cooldown,
            max_waiting: self.max_waiting,
            scheme: self.scheme,
        };
        let mut sinks = self.sinks;
        crate::telemetry::tell_of_tokens(&mut sinks, &self.clock);
        let now = self.clock.now();
        let cell = TokenCell::new(settings, self.origins.len(), self.seed, now);
        let sharing = self
            .store
            .map(|store| TokenSharing::new(store, self.sharing, &self.origins));
        let tokens = Tokens::new(cell, self.source, sharing, self.clock, sinks);
        let authorizer = Authorizer {
            origins: self.origins,
            assumed: self.assumed,
            allow_http: self.allow_http,
            foreign: self.foreign,
            host: self.host,
            existing: self.existing,
            header: self.header,
        };
        let exchange = Arc::new(Exchange {
            tokens: Arc::new(tokens),
            authorizer,
            replay: self.replay,
            usage,
        });
        exchange.report(misuse);
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

const MAX_WAITING: usize = 100_000;
