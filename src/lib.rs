//! tower middleware for machine-to-machine HTTP: OAuth 2.0 client credentials and rate-limit-aware retries.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod attempts;
mod backoff;
pub mod client_credentials;
#[cfg(feature = "reqwest")]
pub mod clients;
mod clock;
pub mod docs;
mod drain;
mod error;
pub mod grpc;
mod kept;
mod origin;
mod peek;
mod random;
pub mod rate_limit_retry;
mod readiness;
pub mod replay;
mod retry_after;
mod sharded;
mod sinks;
pub mod stack;
mod store;
mod sync;
mod telemetry;
pub mod tenants;
#[cfg(feature = "test-util")]
pub mod test_util;
mod two_speeds;
mod waker_set;

pub use self::{
    attempts::Attempts,
    backoff::Backoff,
    client_credentials::{ClientAuth, ClientCredentialsLayer, TokenEndpoint},
    clock::{Clock, SystemClock},
    error::ErrorClass,
    origin::{InvalidOrigin, Origin},
    rate_limit_retry::RateLimitRetryLayer,
    stack::M2mLayer,
};

/// An error of any kind, as in tower. What this crate puts into it can be had by `downcast_ref`.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
