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

#[doc = include_str!("messages.md")]
pub mod messages {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}

#[doc = include_str!("pictures.md")]
pub mod pictures {}

#[doc = include_str!("runbook.md")]
pub mod runbook {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("changelog.md")]
pub mod changelog {}
