//! What makes a fetch necessary.

/// What made a fetch necessary.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{FetchReason, TokenEvent};
///
/// fn sink(event: &TokenEvent<'_>) {
///     if let TokenEvent::Fetched { reason, elapsed, .. } = event {
///         println!("{} fetch took {elapsed:?}", reason.as_str());
///     }
/// }
/// # let _: fn(&TokenEvent<'_>) = sink;
/// assert_eq!(FetchReason::Early.as_str(), "early");
/// ```
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
