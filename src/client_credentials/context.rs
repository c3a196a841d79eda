//! Why, for how long and among what tokens are fetched and revoked.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Challenge, FetchReason, TokenIdentity,
    cell::Published,
    event::{TokenEvent, TokenEvents},
};
use crate::{Clock, clock::SharedClock, random::Random, sinks::Sinks};

/// For how long a token is being revoked.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{AccessToken, FetchContext, RevokeContext, TokenError, TokenSource};
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
///             returned.map_err(|error| TokenError::transient("was not handed back").with_source(error))
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
    surroundings: Surroundings<'a>,
}

impl<'a> RevokeContext<'a> {
    pub(crate) fn new(surroundings: Surroundings<'a>) -> Self {
        Self { surroundings }
    }

    pub(crate) fn surroundings(&self) -> &Surroundings<'a> {
        &self.surroundings
    }

    /// The layer's clock.
    #[must_use]
    pub fn clock(&self) -> &'a dyn Clock {
        self.surroundings.clock()
    }

    /// When the revocation is given up, in tokio's time.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.surroundings.deadline()
    }
}

/// Why and for how long a token is being fetched.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{AccessToken, FetchContext, FetchReason, TokenError, TokenSource};
///
/// struct Metadata;
///
/// impl TokenSource for Metadata {
///     async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
///         // The server caches, and would give out the refused token again.
///         let fresh = cx.reason() == FetchReason::Rejected;
///         let token = tokio::time::timeout_at(cx.deadline(), ask(fresh)).await;
///         let token = token.map_err(|error| TokenError::transient("did not come in time").with_source(error))?;
///         Ok(AccessToken::new(token))
///     }
/// }
/// # async fn ask(_: bool) -> String { String::new() }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FetchContext<'a> {
    reason: FetchReason,
    rejected: Option<&'a Rejected>,
    surroundings: Surroundings<'a>,
}

impl<'a> FetchContext<'a> {
    pub(crate) fn new(
        reason: FetchReason,
        rejected: Option<&'a Rejected>,
        surroundings: Surroundings<'a>,
    ) -> Self {
        Self {
            reason,
            rejected,
            surroundings,
        }
    }

    pub(crate) fn surroundings(&self) -> &Surroundings<'a> {
        &self.surroundings
    }

    /// What made the fetch necessary.
    #[must_use]
    pub fn reason(&self) -> FetchReason {
        self.reason
    }

    /// The token that an API refused, if that is the reason.
    #[must_use]
    pub fn rejected(&self) -> Option<&'a Rejected> {
        self.rejected
    }

    /// The layer's clock.
    #[must_use]
    pub fn clock(&self) -> &'a dyn Clock {
        self.surroundings.clock()
    }

    /// When the fetch is given up, in tokio's time.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.surroundings.deadline()
    }
}

/// What a source may use while it works, whatever for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    deadline: Instant,
    clock: &'a SharedClock,
    random: &'a Random,
    credential: Option<&'a str>,
    sinks: &'a Sinks<TokenEvents>,
}

impl<'a> Surroundings<'a> {
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

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) fn clock(&self) -> &'a dyn Clock {
        self.clock.as_dyn()
    }

    /// A number in `0.0..1.0`, for jitter.
    pub(crate) fn random(&self) -> f64 {
        self.random.unit()
    }

    /// Tells what happened on the way, given the credential's name.
    pub(crate) fn emit(&self, event: impl FnOnce(Option<&'a str>) -> TokenEvent<'a>) {
        self.sinks.emit(&event(self.credential));
    }
}

/// A token that an API refused, and how the API put it.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{AccessToken, FetchContext};
///
/// /// Whether a cached token is another than the one that was refused.
/// fn may_be_used(cached: &AccessToken, cx: &FetchContext<'_>) -> bool {
///     cx.rejected().is_none_or(|rejected| rejected.identity() != cached.identity())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Rejected {
    pub(crate) identity: TokenIdentity,
    pub(crate) challenges: Vec<Challenge>,
}

impl Rejected {
    /// The refused token.
    #[must_use]
    pub fn identity(&self) -> TokenIdentity {
        self.identity
    }

    /// The challenges of the 401 (RFC 9110 §11.6.1); empty if it came without any.
    #[must_use]
    pub fn challenges(&self) -> &[Challenge] {
        &self.challenges
    }
}

/// What a cell holds when a fetch begins: what decides whether a token of another process is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct CellState {
    /// The token at hand, usable or not.
    pub(crate) current: Option<Arc<Published>>,
    /// A token that was dropped by hand.
    pub(crate) dropped: Option<TokenIdentity>,
    /// Where the token at hand was refused, if that is the reason for the fetch: which of the layer's origins.
    pub(crate) rejected_at: Option<usize>,
    /// How soon after this fetch a refused token may be replaced again.
    pub(crate) cooldown: Duration,
    /// How long before its end a token is renewed.
    pub(crate) refresh_before: Duration,
}

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use super::*;
    use crate::{SystemClock, client_credentials::AccessToken};

    #[test]
    fn a_source_is_told_all_that_is_known_about_the_fetch() {
        let (clock, random, sinks) = (
            SharedClock::default(),
            Random::new(Some(7)),
            Sinks::default(),
        );
        let deadline = SystemClock.now();
        let surroundings = Surroundings::new(deadline, &clock, &random, Some("orders"), &sinks);
        let token = AccessToken::new("token").identity();
        let headers = [(
            http::header::WWW_AUTHENTICATE,
            http::HeaderValue::from_static("Bearer"),
        )];
        let rejected = Rejected {
            identity: token,
            challenges: super::super::challenge::challenges(&headers.into_iter().collect(), None),
        };

        let cx = FetchContext::new(FetchReason::Rejected, Some(&rejected), surroundings);

        assert_eq!(cx.reason(), FetchReason::Rejected);
        assert_eq!(cx.rejected().map(Rejected::identity), Some(token));
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
    fn each_reason_has_a_word() {
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
