//! Contexts that a token source receives when it fetches or revokes a token.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Challenge, FetchReason, TokenFingerprint, TokenScope,
    cache::CachedToken,
    event::{TokenEvent, TokenEvents},
};
use crate::{Clock, clock::SharedClock, random::Random, sinks::Sinks};

/// Clock and deadline of a revocation.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{
///     AccessToken, FetchContext, RevokeContext, TokenError, TokenSource,
/// };
///
/// struct Leases;
///
/// impl TokenSource for Leases {
///     async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
///         Ok(AccessToken::new("lease"))
///     }
///
///     fn revoke<'a>(
///         &'a self,
///         token: &'a AccessToken,
///         cx: RevokeContext<'a>,
///     ) -> Option<impl Future<Output = Result<(), TokenError>> + Send + 'a> {
///         Some(async move {
///             let time_left = cx.deadline() - cx.clock().now();
///             let returned = hand_back(token.expose(), time_left).await;
///             returned.map_err(|error| {
///                 TokenError::transient("was not handed back").with_source(error)
///             })
///         })
///     }
///
///     fn revokes(&self) -> bool {
///         true
///     }
/// }
/// # async fn hand_back(_: Option<&str>, _: std::time::Duration) -> std::io::Result<()> { Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RevokeContext<'a> {
    /// Deadline, clock and event sinks.
    surroundings: SourceContext<'a>,
}

impl<'a> RevokeContext<'a> {
    /// Creates the context of one revocation.
    pub(crate) fn new(surroundings: SourceContext<'a>) -> Self {
        Self { surroundings }
    }

    /// Returns what the crate's own sources use.
    pub(crate) fn surroundings(&self) -> &SourceContext<'a> {
        &self.surroundings
    }

    /// Returns the layer's clock.
    #[must_use]
    pub fn clock(&self) -> &'a dyn Clock {
        self.surroundings.clock()
    }

    /// Returns when the revocation is dropped, in tokio's time.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.surroundings.deadline()
    }
}

/// Reason, clock and deadline of a fetch.
///
/// Passed by value: it is `Copy`, and borrows from the fetch.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{
///     AccessToken, FetchContext, FetchReason, TokenError, TokenSource,
/// };
///
/// struct Metadata;
///
/// impl TokenSource for Metadata {
///     async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
///         // The server caches, and would return the rejected token again.
///         let fresh = cx.reason() == FetchReason::Rejected;
///         let token = tokio::time::timeout_at(cx.deadline(), request(fresh)).await;
///         let token = token.map_err(|error| {
///             TokenError::transient("did not come in time").with_source(error)
///         })?;
///         Ok(AccessToken::new(token))
///     }
/// }
/// # async fn request(_: bool) -> String { String::new() }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FetchContext<'a> {
    /// What made the fetch necessary.
    reason: FetchReason,
    /// The rejected token, for [`FetchReason::Rejected`].
    rejected: Option<&'a RejectedToken>,
    /// What the token is requested for, if it differs from the source's own settings.
    token_scope: Option<&'a TokenScope>,
    /// Deadline, clock, jitter and event sinks.
    surroundings: SourceContext<'a>,
}

impl<'a> FetchContext<'a> {
    /// Creates the context of one fetch.
    pub(crate) fn new(
        reason: FetchReason,
        rejected: Option<&'a RejectedToken>,
        surroundings: SourceContext<'a>,
    ) -> Self {
        Self {
            reason,
            rejected,
            token_scope: None,
            surroundings,
        }
    }

    /// Sets what the token is requested for.
    pub(crate) fn with_token_scope<'b>(self, scope: &'b TokenScope) -> FetchContext<'b>
    where
        'a: 'b,
    {
        FetchContext {
            token_scope: Some(scope).filter(|scope| !scope.is_empty()),
            ..self
        }
    }

    /// Returns what the token is requested for instead of what the source requests: the [`TokenScope`] of a request,
    /// and scopes from challenges of an API. `None` for the usual token.
    #[must_use]
    pub fn token_scope(&self) -> Option<&'a TokenScope> {
        self.token_scope
    }

    /// Returns what the crate's own sources use.
    pub(crate) fn surroundings(&self) -> &SourceContext<'a> {
        &self.surroundings
    }

    /// Returns what made the fetch necessary.
    #[must_use]
    pub fn reason(&self) -> FetchReason {
        self.reason
    }

    /// Returns the token that an API rejected, if that is the reason for the fetch.
    #[must_use]
    pub fn rejected(&self) -> Option<&'a RejectedToken> {
        self.rejected
    }

    /// Returns the layer's clock.
    #[must_use]
    pub fn clock(&self) -> &'a dyn Clock {
        self.surroundings.clock()
    }

    /// Returns when the fetch is dropped, in tokio's time.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.surroundings.deadline()
    }
}

/// What a source uses for a fetch as well as for a revocation.
///
/// Not public, because events and jitter belong to the layer: a source of the program reports its failures by its
/// errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceContext<'a> {
    /// When the work is dropped.
    deadline: Instant,
    /// The layer's clock.
    clock: &'a SharedClock,
    /// Source of jitter.
    random: &'a Random,
    /// Name of the credential, for events.
    credential: Option<&'a str>,
    /// Receivers of events.
    sinks: &'a Sinks<TokenEvents>,
}

impl<'a> SourceContext<'a> {
    /// Collects what a source uses until `deadline`.
    pub(crate) fn new(
        deadline: Instant,
        clock: &'a SharedClock,
        random: &'a Random,
        credential: Option<&'a str>,
        sinks: &'a Sinks<TokenEvents>,
    ) -> Self {
        Self {
            deadline,
            clock,
            random,
            credential,
            sinks,
        }
    }

    /// Returns when the work is dropped.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns the layer's clock.
    pub(crate) fn clock(&self) -> &'a dyn Clock {
        self.clock.as_dyn()
    }

    /// Returns a number in `0.0..1.0`, for jitter.
    pub(crate) fn random(&self) -> f64 {
        self.random.unit()
    }

    /// Emits an event, which `event` creates from the credential's name.
    pub(crate) fn emit(&self, event: impl FnOnce(Option<&'a str>) -> TokenEvent<'a>) {
        self.sinks.emit(&event(self.credential));
    }
}

/// A token that an API rejected, and the challenges of the 401.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{AccessToken, FetchContext};
///
/// /// Whether a cached token is another than the one that was rejected.
/// fn may_be_used(cached: &AccessToken, cx: &FetchContext<'_>) -> bool {
///     cx.rejected().is_none_or(|rejected| rejected.fingerprint() != cached.fingerprint())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RejectedToken {
    /// Hash of the rejected token.
    pub(crate) fingerprint: TokenFingerprint,
    /// Challenges of the 401.
    pub(crate) challenges: Vec<Challenge>,
}

impl RejectedToken {
    /// Returns the hash of the rejected token.
    #[must_use]
    pub fn fingerprint(&self) -> TokenFingerprint {
        self.fingerprint
    }

    /// Returns the challenges of the 401 (RFC 9110 §11.6.1). Empty if it had none.
    #[must_use]
    pub fn challenges(&self) -> &[Challenge] {
        &self.challenges
    }
}

/// State of the token cache at the start of a fetch. It decides whether a token of another process is used.
///
/// A copy, so that the fetch holds no lock and decides consistently.
#[derive(Clone, Debug, Default)]
pub(crate) struct CacheState {
    /// The cached token, usable or not.
    pub(crate) current: Option<Arc<CachedToken>>,
    /// The token that `invalidate` last dropped.
    pub(crate) invalidated: Option<TokenFingerprint>,
    /// Index of the origin that rejected the token, if that is the reason for the fetch.
    pub(crate) rejected_at: Option<usize>,
    /// How soon after this fetch a rejected token may be replaced again.
    pub(crate) cooldown: Duration,
    /// How long before its expiry a token is refreshed.
    pub(crate) refresh_before: Duration,
}

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use super::*;
    use crate::{SystemClock, client_credentials::AccessToken};

    #[test]
    fn the_fetch_context_exposes_reason_and_rejected_token() {
        let (clock, random, sinks) = (
            SharedClock::default(),
            Random::new(Some(7)),
            Sinks::default(),
        );
        let deadline = SystemClock.now();
        let surroundings = SourceContext::new(deadline, &clock, &random, Some("orders"), &sinks);
        let token = AccessToken::new("token").fingerprint();
        let headers = [(
            http::header::WWW_AUTHENTICATE,
            http::HeaderValue::from_static("Bearer"),
        )];
        let rejected = RejectedToken {
            fingerprint: token,
            challenges: super::super::challenge::challenges(&headers.into_iter().collect(), None),
        };

        let cx = FetchContext::new(FetchReason::Rejected, Some(&rejected), surroundings);

        assert_eq!(cx.reason(), FetchReason::Rejected);
        assert_eq!(cx.rejected().map(RejectedToken::fingerprint), Some(token));
        assert_eq!(cx.rejected().unwrap().challenges()[0].scheme(), "Bearer");
        assert_eq!(cx.deadline(), deadline);
        assert_eq!(RevokeContext::new(surroundings).deadline(), deadline);
        // The layer's own sequence of random numbers.
        let same = Random::new(Some(7));
        for _ in 0..3 {
            assert_eq!(cx.surroundings().random().to_bits(), same.unit().to_bits());
        }
    }

    #[test]
    fn each_reason_has_a_name() {
        for (reason, word) in [
            (FetchReason::Cold, "cold"),
            (FetchReason::Early, "early"),
            (FetchReason::Expired, "expired"),
            (FetchReason::Forced, "forced"),
            (FetchReason::Rejected, "rejected"),
        ] {
            assert_eq!(reason.as_str(), word);
        }
    }
}
