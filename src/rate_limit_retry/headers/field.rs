//! The meaning of a response field.
//!
//! The general rules map most names to one of these meanings. A [`HeaderProfile`](super::HeaderProfile) returns one for
//! a name that they do not understand, or misunderstand.

/// The meaning of a response field.
///
/// A meaning also determines how the value is parsed. A malformed value is ignored, except for
/// [`RetryPushback`](Self::RetryPushback).
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::headers::{Field, HeaderProfile};
///
/// #[derive(Debug)]
/// struct Acme;
///
/// impl HeaderProfile for Acme {
///     fn field(&self, name: &str) -> Option<Field> {
///         match name {
///             "acme-left" => Some(Field::Remaining),
///             "acme-window" => Some(Field::WindowMillis),
///             // The limit of another product of this vendor.
///             "x-ratelimit-limit" => Some(Field::Ignored),
///             _ => None,
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Field {
    /// Number allowed per window, `limit:seconds` pairs, or the policies of IETF drafts 01 to 03. Of several values in
    /// one response, the smallest applies.
    Limit,
    /// Number that remains: a number, rounded down. `-1` means that it is unknown; a smaller number means zero.
    Remaining,
    /// Number that is used up. Together with a limit, it determines what remains.
    Used,
    /// `used/limit`.
    UsedOfLimit,
    /// Number allowed per second, for a token bucket. May be less than one.
    Rate,
    /// Number that is refilled per window; per second without a window.
    RefillAmount,
    /// Reset of the quota, as a duration or a date; the form of the value decides. See the
    /// [module](super#resets) for the forms.
    Reset,
    /// Reset of the quota, in milliseconds from now. A number that is too large for a duration is a date.
    ResetMillis,
    /// Time of the next attempt, as a duration or a date, like `Retry-After` (RFC 9110 §10.2.3).
    RetryAfter,
    /// Time of the next attempt, in milliseconds from now.
    RetryAfterMillis,
    /// Time of the next attempt, in milliseconds; no retry if negative or malformed (gRPC A6).
    RetryPushback,
    /// Length of the window, in seconds.
    Window,
    /// Length of the window, in milliseconds.
    WindowMillis,
    /// Name of the quota, as in `X-RateLimit-Resource: core`.
    Name,
    /// Quotas and windows: `RateLimit-Policy`.
    Policy,
    /// `seconds:categories:scope`, each an exhausted quota (Sentry).
    CategoryDelays,
    /// A complete description: structured, JSON, `name=value` pairs, `used/limit`, or only the limit.
    Combined,
    /// No rate-limit information. For a field that the general rules misunderstand.
    Ignored,
}
