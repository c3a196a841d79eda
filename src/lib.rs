//! tower middleware for machine-to-machine HTTP: OAuth 2.0 client credentials and rate-limit-aware retries.
//!
// The README has relative links. The first of two definitions of a link wins.
//! [run]: https://raw.githubusercontent.com/tower-m2m/tower-m2m/HEAD/src/docs/pictures/quickstart.svg?sanitize=true
//! [quickstart]: https://github.com/tower-m2m/tower-m2m/tree/HEAD/examples/quickstart/src/main.rs
//! [features]: docs::features
//! [examples]: https://github.com/tower-m2m/tower-m2m/tree/HEAD/examples
//! [`client_authentication`]: docs::client_authentication
//! [`comparison`]: docs::comparison
//! [`composing`]: docs::composing
//! [`configuration`]: docs::configuration
//! [`defaults`]: docs::defaults
//! [`failure_modes`]: docs::failure_modes
//! [`fleet`]: docs::fleet
//! [`limits`]: docs::limits
//! [`measurements`]: docs::measurements
//! [`messages`]: docs::messages
//! [`migrating`]: docs::migrating
//! [`ordering`]: docs::ordering
//! [`recipes`]: docs::recipes
//! [`runbook`]: docs::runbook
//! [`security`]: docs::security
//! [`telemetry`]: docs::telemetry
//! [`tenants`]: docs::tenants
//! [`testing`]: docs::testing
//!
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod attempts;
mod backoff;
mod boxed;
mod call;
mod catch_panic;
#[cfg(feature = "client")]
pub mod client;
pub mod client_credentials;
#[cfg(feature = "reqwest")]
pub mod clients;
mod clock;
#[cfg(any(feature = "https", feature = "redis-tls"))]
mod crypto;
pub mod docs;
mod error;
pub mod grpc;
mod inner_service;
mod misuse;
mod origin;
mod peek;
mod random;
pub mod rate_limit_retry;
pub mod replay;
mod retry_after;
mod secret;
mod sharded;
mod sinks;
pub mod stack;
mod steps;
pub mod store;
mod sync;
mod telemetry;
pub mod tenants;
#[cfg(feature = "test-util")]
pub mod test_util;
mod waker_set;

#[cfg(feature = "client")]
#[doc(inline)]
pub use self::client::Client;
#[cfg(feature = "metrics")]
pub use self::telemetry::{METRIC_BUCKETS, describe_metrics};
#[doc(inline)]
pub use self::{
    attempts::Attempts,
    backoff::Backoff,
    client_credentials::{ClientAuth, ClientCredentialsLayer, TokenEndpoint},
    clock::{Clock, SystemClock},
    error::ErrorClass,
    inner_service::InnerService,
    misuse::Misuse,
    origin::{InvalidOrigin, Origin},
    rate_limit_retry::RateLimitRetryLayer,
    stack::M2mLayer,
};

/// A boxed error, as in tower. `downcast_ref` returns the error of this crate, if it is one.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     BoxError,
///     client_credentials::{OriginNotAllowed, TokenError},
///     rate_limit_retry::RateLimited,
/// };
///
/// fn explain(error: &BoxError) -> String {
///     if let Some(error) = error.downcast_ref::<TokenError>() {
///         return format!("no token, {}", error.kind().as_str());
///     }
///     if let Some(hold) = error.downcast_ref::<RateLimited>() {
///         return format!("no quota for {:?}", hold.retry_after());
///     }
///     match error.is::<OriginNotAllowed>() {
///         true => "a mistake of ours".to_owned(),
///         false => format!("the client's own error: {error}"),
///     }
/// }
///
/// assert_eq!(explain(&TokenError::transient("failed").into()), "no token, other");
/// ```
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
