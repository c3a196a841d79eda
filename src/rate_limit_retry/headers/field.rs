//! What a field of a response says.

/// What a field says.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::headers::{Field, Profile};
///
/// #[derive(Debug)]
/// struct Acme;
///
/// impl Profile for Acme {
///     fn field(&self, name: &str) -> Option<Field> {
///         match name {
///             "acme-left" => Some(Field::Remaining),
///             "acme-window" => Some(Field::WindowMillis),
///             // The limit of another of their products.
///             "x-ratelimit-limit" => Some(Field::Ignored),
///             _ => None,
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Field {
    /// How much is allowed in a window; `limit:seconds` pairs; or the policies of IETF drafts 01 to 03.
    Limit,
    /// How much is left.
    Remaining,
    /// How much is used up.
    Used,
    /// `used/limit`.
    UsedOfLimit,
    /// How much is allowed in a second: a rate, which may be below one.
    Rate,
    /// How much comes back in a window.
    Refill,
    /// When the quota is replenished; the form of the value tells a length of time from a date.
    Reset,
    /// The same, in milliseconds from now.
    ResetMillis,
    /// When to come back.
    RetryAfter,
    /// The same, in milliseconds from now.
    RetryAfterMillis,
    /// When to come back in milliseconds, or never if negative or malformed (gRPC A6).
    Pushback,
    /// The length of the window in seconds.
    Window,
    /// The length of the window in milliseconds.
    WindowMillis,
    /// How the server calls the quota.
    Name,
    /// Quotas and windows: `RateLimit-Policy`.
    Policy,
    /// `seconds:categories:scope`, each a quota that is used up (Sentry).
    Cooldowns,
    /// Everything: structured, JSON, `name=value` pairs, `used/limit`, or just the limit.
    Whole,
    /// Nothing about limits.
    Ignored,
}
