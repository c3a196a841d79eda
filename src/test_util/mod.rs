//! Loopback servers and test doubles for the tests of your own program.
//!
//! * [`Issuer`]: an OAuth 2.0 authorization server for client credentials (RFC 6749 §4.4). It counts token requests, and
//!   how many of the tokens it issued were redundant.
//! * [`Api`]: a resource server that checks tokens, enforces a [`Quota`], and announces it in a [`Dialect`] of your
//!   choice.
//! * [`MemoryTokenStore`] and [`MemoryQuotaStore`]: stores that several layers share, as the processes of a fleet do.
//! * `FaultySigner` (feature `jwt`): a signer with the faults of a KMS: slow, throttled, unreachable, denied.
//! * [`Probe`]: a service whose clones are not ready, to detect errors in the handling of readiness.
//!
//! Both servers listen on a free port of 127.0.0.1, support HTTP/1.1 and HTTP/2 without TLS, and stop when they are
//! dropped. Their logic is also available without a socket, as a service: [`Issuer::service`], [`Api::service`].
//!
//! All times follow tokio's clock, including the wall-clock time: with `#[tokio::test(start_paused = true)]`, an hour
//! passes at once. Prefer the services to the sockets there: a paused clock advances while bytes are in transit.
//!
//! | to test | use |
//! |---|---|
//! | a slow or failing issuer, odd responses | [`Issuer::next`], [`Issuer::always`], [`IssuerBuilder::answer`] |
//! | a token that expires or is revoked | [`IssuerBuilder::expires_in`], [`Issuer::revoke_all`] |
//! | an authorization server that the API names | [`ApiBuilder::protected_resource`] |
//! | metadata | [`Issuer::identifier`], [`IssuerBuilder::metadata`] |
//! | tokens that are bound to a key (DPoP) | [`IssuerBuilder::dpop_bound_access_tokens`], [`Issuer::set_dpop_nonce`], [`Api::set_dpop_nonce`] |
//! | a token that the client revokes | [`IssuerStats::revoked`] |
//! | a rotated secret | [`Issuer::set_secret`] |
//! | an API that throttles | [`ApiBuilder::quota`], [`Api::next`] with [`ApiFault::retry_after`] |
//! | a connection that breaks | [`Fault::Reset`], [`ApiFault::Reset`], [`ApiFault::GoAway`] |
//! | a response that is early, slow or incomplete | [`ApiFault::EarlyStatus`], [`ApiFault::Trickle`], [`ApiFault::Truncate`] |
//! | a fault of some requests only | [`Api::next_for`], [`Api::always_for`] with a [`FaultTarget`] |
//! | what was sent | [`Api::requests`], [`Issuer::requests`] |
//! | a store that fails, is slow or loses calls | [`MemoryTokenStore::fail_with`], [`MemoryQuotaStore::set_loss`] |
//! | a layer that waits while it holds readiness | [`Probe::ready_held`] |
//!
//! The doubles serve tests and examples. They are not hardened, and their random tokens are not secret.
//!
//! # Examples
//!
//! ```
//! # async fn example() -> std::io::Result<()> {
//! use std::time::Duration;
//!
//! use tower_m2m::test_util::{Api, Dialect, Issuer, Quota};
//!
//! let issuer = Issuer::builder().client("id", "secret").start().await?;
//! let api = Api::builder()
//!     .tokens(issuer.tokens())
//!     .quota(Quota::fixed_window(300, Duration::from_secs(60)))
//!     .dialect(Dialect::Draft3)
//!     .start()
//!     .await?;
//!
//! // ... send requests to `api.url()` with your client, which gets its tokens from
//! // `issuer.token_url()` ...
//!
//! assert_eq!(issuer.stats().redundant, 0);
//! assert_eq!(api.stats().rate_limited, 0);
//! # Ok(())
//! # }
//! ```

mod api;
mod clock;
mod dpop;
mod fault_target;
mod issuer;
mod memory_store;
mod meter;
mod probe;
mod quota;
mod quota_store;
mod recorded_request;
mod script;
mod serve;
#[cfg(feature = "jwt")]
mod signer;
mod time;
mod token_registry;
mod token_store;

#[cfg(feature = "jwt")]
pub use self::signer::{FaultySigner, SignerFault};
pub use self::{
    api::{Api, ApiBody, ApiBuilder, ApiFault, ApiService, ApiStats, Dialect},
    clock::TestClock,
    dpop::DpopProof,
    fault_target::FaultTarget,
    issuer::{
        AcceptedAuth, Answer, Fault, Grant, Issuer, IssuerBuilder, IssuerService, IssuerStats,
    },
    probe::Probe,
    quota::Quota,
    quota_store::MemoryQuotaStore,
    recorded_request::RecordedRequest,
    token_registry::TokenRegistry,
    token_store::MemoryTokenStore,
};
use crate::BoxError;
