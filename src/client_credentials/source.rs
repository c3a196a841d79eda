//! Where tokens come from.

use std::{
    fmt,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    AccessToken, Challenge, TokenError, TokenIdentity,
    event::{TokenEvent, TokenEvents},
};
use crate::{Clock, clock::SharedClock, random::Random, sinks::Sinks};

/// Where tokens come from: a [`TokenEndpoint`](super::TokenEndpoint), an [`AccessToken`] that never changes, or a type
/// of yours.
///
/// The layer calls [`fetch`](Self::fetch) for one caller at a time, on a task of its own, and shares the outcome.
pub trait TokenSource: Send + Sync + 'static {
    /// Gets a token.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] says whether the failure is transient. It is remembered, and asked for again after a back-off.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at [`FetchContext::deadline`], and when its runtime ends.
    fn fetch(
        &self,
        cx: FetchContext<'_>,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send;

    /// Whether what the last attempt was made with (its secret) has changed since.
    ///
    /// Asked at most every 5 s, and only by a caller who meets the back-off of a permanent failure; `true` ends that
    /// back-off. The default is `false`.
    fn changed(&self) -> impl Future<Output = bool> + Send {
        ready(false)
    }

    /// Revokes `token` (RFC 7009), which nobody uses any more because of
    /// [`TokenHandle::shutdown`](super::TokenHandle::shutdown).
    ///
    /// `None` if this source leaves tokens to expire, which is the default: the token then stays in use.
    ///
    /// # Errors
    ///
    /// A [`TokenError`], which [`TokenEvent::RevocationFailed`] tells; nothing else follows from it.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at [`RevokeContext::deadline`], and when that of `shutdown` is.
    fn revoke<'a>(
        &'a self,
        token: &'a AccessToken,
        cx: RevokeContext<'a>,
    ) -> Option<impl Future<Output = Result<(), TokenError>> + Send + 'a> {
        let _ = (token, cx);
        None::<Ready<Result<(), TokenError>>>
    }
}

/// For how long a token is being revoked.
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

/// What made a fetch necessary.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum FetchReason {
    /// There was no token: none had been fetched yet, or it was dropped with
    /// [`TokenHandle::invalidate`](super::TokenHandle::invalidate).
    Cold,
    /// The token is about to expire; requests go on with it meanwhile.
    Early,
    /// The token has expired.
    Expired,
    /// [`TokenHandle::refresh_now`](super::TokenHandle::refresh_now) was called.
    Forced,
    /// An API refused the token with a 401.
    Rejected,
}

impl FetchReason {
    /// The reason in one lower-case word, for logs and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Early => "early",
            Self::Expired => "expired",
            Self::Forced => "forced",
            Self::Rejected => "rejected",
        }
    }
}

/// A token that an API refused, and how the API put it.
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

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Any [`TokenSource`], erased and cheap to clone; a `TokenSource` itself.
#[derive(Clone)]
pub struct SharedTokenSource(Arc<dyn Erased>);

impl SharedTokenSource {
    /// Erases `source`.
    #[must_use]
    pub fn new(source: impl TokenSource) -> Self {
        Self(Arc::new(source))
    }
}

impl TokenSource for SharedTokenSource {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        self.0.fetch_boxed(cx).await
    }

    async fn changed(&self) -> bool {
        self.0.changed_boxed().await
    }

    fn revoke<'a>(
        &'a self,
        token: &'a AccessToken,
        cx: RevokeContext<'a>,
    ) -> Option<impl Future<Output = Result<(), TokenError>> + Send + 'a> {
        self.0.revoke_boxed(token, cx)
    }
}

impl fmt::Debug for SharedTokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTokenSource").finish_non_exhaustive()
    }
}

trait Erased: Send + Sync {
    fn fetch_boxed<'a>(
        &'a self,
        cx: FetchContext<'a>,
    ) -> BoxFuture<'a, Result<AccessToken, TokenError>>;

    fn changed_boxed(&self) -> BoxFuture<'_, bool>;

    fn revoke_boxed<'a>(
        &'a self,
        token: &'a AccessToken,
        cx: RevokeContext<'a>,
    ) -> Option<BoxFuture<'a, Result<(), TokenError>>>;
}

impl<T: TokenSource> Erased for T {
    fn fetch_boxed<'a>(
        &'a self,
        cx: FetchContext<'a>,
    ) -> BoxFuture<'a, Result<AccessToken, TokenError>> {
        Box::pin(self.fetch(cx))
    }

    fn changed_boxed(&self) -> BoxFuture<'_, bool> {
        Box::pin(self.changed())
    }

    fn revoke_boxed<'a>(
        &'a self,
        token: &'a AccessToken,
        cx: RevokeContext<'a>,
    ) -> Option<BoxFuture<'a, Result<(), TokenError>>> {
        let revocation = self.revoke(token, cx)?;
        Some(Box::pin(revocation))
    }
}
