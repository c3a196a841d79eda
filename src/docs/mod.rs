//! Guides: how the layers are put together, what they do by default, and what happens when things go wrong.
//!
//! - [`ordering`]: which layer goes where, and why
//! - [`composing`]: which stacks work with which clients, and what the compiler's errors mean
//! - [`defaults`]: every setting, its default and the reason for it
//! - [`configuration`]: every key of a configuration from the environment or a file
//! - [`client_authentication`]: every way to authenticate at a token endpoint, other grants, discovery
//! - [`security`]: what is protected against whom, and what is not
//! - [`failure_modes`]: for each failure, what your code sees and what is sent
//! - [`fleet`]: how many processes share one token, on Redis
//! - [`telemetry`]: every metric and every log line, and what to be woken for
//! - [`messages`]: the errors' texts, and why they come
//! - [`migrating`]: from a `RwLock<Token>`, from reqwest-middleware and oauth2, between versions
//! - [`pictures`]: the stack, a refresh and a hold
//! - [`measurements`]: how it does beside other clients, against limited servers and in what a request costs
//! - [`comparison`]: who can do what
//! - [`runbook`]: what to do when an alert comes
//! - [`testing`]: how you test code that uses the layers
//! - [`changelog`]: what has changed
//!
//! The modules hold no code. Every Rust block in the guides is compiled, and run where it needs no network.

#[doc = include_str!("ordering.md")]
pub mod ordering {}

#[doc = include_str!("composing.md")]
pub mod composing {}

#[doc = include_str!("defaults.md")]
pub mod defaults {}

#[doc = include_str!("configuration.md")]
pub mod configuration {}

#[doc = include_str!("client_authentication.md")]
pub mod client_authentication {}

#[doc = include_str!("security.md")]
pub mod security {}

#[doc = include_str!("failure_modes.md")]
pub mod failure_modes {}

#[doc = include_str!("fleet.md")]
pub mod fleet {}

#[doc = include_str!("telemetry.md")]
pub mod telemetry {}

#[doc = include_str!("measurements.md")]
pub mod measurements {}

#[doc = include_str!("comparison.md")]
pub mod comparison {}

#[doc = include_str!("messages.md")]
pub mod messages {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}

/// The stack, a refresh and a hold as pictures. The words are in [`ordering`],
/// [`client_credentials`](crate::client_credentials) and [`rate_limit_retry`](crate::rate_limit_retry).
///
/// # The stack
///
#[doc = include_str!("pictures/stack.svg")]
///
/// # A refresh
///
#[doc = include_str!("pictures/refresh.svg")]
///
/// The first request after the lead time, which varies a little, has begun starts a refresh and goes on with token 1, as do
/// the next ones. Nobody waits. Only if the fetch has failed until the end do requests wait, or fail while the back-off
/// lasts; no token, no request. A fetch that failed is tried again after a back-off, whoever asks: token 1 stays in use until
/// it ends.
///
/// # A hold
///
#[doc = include_str!("pictures/hold.svg")]
///
/// One refused request is enough: the others wait where they are, holding no readiness, and go in the order in which they
/// came. Who may not wait for so long is told at once: with the server's own 429, or with
/// [`HoldTooLong`](crate::rate_limit_retry::HoldTooLong) where nothing was sent. Where servers announce their quotas, nobody
/// is refused: the partition is held when nothing remains.
pub mod pictures {}

#[doc = include_str!("runbook.md")]
pub mod runbook {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("changelog.md")]
pub mod changelog {}
