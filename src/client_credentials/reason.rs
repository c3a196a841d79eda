//! Reasons for a fetch.

/// Reason for a fetch.
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
    /// There was no token: none had been fetched yet, or [`TokenHandle::invalidate`](super::TokenHandle::invalidate)
    /// dropped it.
    Cold,
    /// The token is about to expire. Requests use it meanwhile.
    Early,
    /// The token has expired.
    Expired,
    /// [`TokenHandle::refresh_now`](super::TokenHandle::refresh_now) was called.
    Forced,
    /// An API rejected the token with a 401.
    Rejected,
}

impl FetchReason {
    /// Returns the reason as one lower-case word, for logs and labels.
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
