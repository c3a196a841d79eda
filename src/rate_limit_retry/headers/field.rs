//! The meaning of a response field.

/// The meaning of a response field.
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
    /// Number allowed per window, `limit:seconds` pairs, or the policies of IETF drafts 01 to 03.
    Limit,
    /// Number that remains.
    Remaining,
    /// Number that is used up.
    Used,
    /// `used/limit`.
    UsedOfLimit,
    /// Number allowed per second. May be less than one.
    Rate,
    /// Number that is refilled per window.
    Refill,
    /// Reset of the quota, as a duration or a date; the form of the value decides.
    Reset,
    /// Reset of the quota, in milliseconds from now.
    ResetMillis,
    /// Time of the next attempt, as a duration or a date.
    RetryAfter,
    /// Time of the next attempt, in milliseconds from now.
    RetryAfterMillis,
    /// Time of the next attempt, in milliseconds; no retry if negative or malformed (gRPC A6).
    Pushback,
    /// Length of the window, in seconds.
    Window,
    /// Length of the window, in milliseconds.
    WindowMillis,
    /// Name of the quota.
    Name,
    /// Quotas and windows: `RateLimit-Policy`.
    Policy,
    /// `seconds:categories:scope`, each an exhausted quota (Sentry).
    Cooldowns,
    /// A complete description: structured, JSON, `name=value` pairs, `used/limit`, or only the limit.
    Whole,
    /// No rate-limit information.
    Ignored,
}
