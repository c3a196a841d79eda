//! Guides, in reading order: from the first request to operation in production.
//!
//! Which guide do you need? Begin with [`composing`] if you have a client, with [`recipes`] if you have a vendor, and with
//! [`messages`] if you have an error. No guide requires that you have read another one.
//!
//! # Your first program
//!
//! For everyone who writes code with the layers:
//!
//! 1. [`composing`]: how the layers go on top of your client, and what the compiler's errors mean
//! 1. [`recipes`]: settings for Keycloak, Auth0, Okta, Entra ID, GitHub, OpenAI, Stripe and other vendors
//! 1. [`configuration`]: a credential from the environment or a file, with every key
//! 1. [`testing`]: how to test your code without a network and without waiting
//! 1. [`messages`]: what each error message means, and what helps
//!
//! # How it behaves
//!
//! For those who choose settings, or review them:
//!
//! 1. [`pictures`]: a run, the stack, a refresh, a hold, and what limits a request
//! 1. [`ordering`]: in which order the layers go, and why
//! 1. [`failure_modes`]: for each failure, what your code sees, what is sent, and which event reports it
//! 1. [`limits`]: what limits a request, and what the layer does with each kind of field and rejection
//! 1. [`client_authentication`]: every method to authenticate at the token endpoint, other grants, discovery
//! 1. [`security`]: what is protected, against what, and what is not
//! 1. [`defaults`]: every setting, its default and the reason for it
//!
//! # In production
//!
//! For those who operate the program:
//!
//! 1. [`telemetry`]: every event, metric and log line, and what to alert on
//! 1. [`runbook`]: what to do when an alert fires
//! 1. [`tenants`]: many credentials in one program: what they share, what each costs, and how to change them
//! 1. [`fleet`]: sharing one token and one quota between processes, with Redis
//!
//! # Whether to use it
//!
//! For those who compare, migrate or upgrade:
//!
//! 1. [`comparison`]: which library supports what
//! 1. [`measurements`]: how it compares with other clients against rate-limited servers, and what a request costs
//! 1. [`features`]: the Cargo features, and which crypto provider https uses
//! 1. [`migrating`]: from a `RwLock<Token>`, from reqwest-middleware and oauth2, between versions
//! 1. [`changelog`]: what changed in each version
//!
//! The modules contain no code. Every Rust block in the guides is compiled, and run if it needs no
//! network, except the two blocks in `migrating` that use other crates.

#[doc = include_str!("ordering.md")]
pub mod ordering {}

#[doc = include_str!("composing.md")]
pub mod composing {}

#[doc = include_str!("defaults.md")]
pub mod defaults {}

#[doc = include_str!("features.md")]
pub mod features {}

#[doc = include_str!("configuration.md")]
pub mod configuration {}

// Names that people search for, and rustdoc finds by them.
#[doc(alias(
    "Auth0",
    "Azure OpenAI",
    "Cognito",
    "Didit",
    "Discord",
    "Entra ID",
    "Azure AD",
    "GitHub App",
    "GitHub Actions"
))]
#[doc(alias(
    "Google",
    "HubSpot",
    "IMDS",
    "Jira",
    "Keycloak",
    "Kubernetes",
    "Okta",
    "OpenAI",
    "Anthropic",
    "Claude",
    "PayPal"
))]
#[doc(alias(
    "Salesforce",
    "SAP",
    "XSUAA",
    "ServiceNow",
    "Shopify",
    "Slack",
    "SPIFFE",
    "Spotify",
    "Stripe",
    "YoID",
    "DIDx",
    "Zendesk",
    "Zoom"
))]
#[doc = include_str!("recipes.md")]
pub mod recipes {}

#[doc = include_str!("client_authentication.md")]
pub mod client_authentication {}

// On GitHub, the picture is the one in the checkout. The first of two definitions of a link wins.
/// [constraints]: https://raw.githubusercontent.com/tower-m2m/tower-m2m/HEAD/src/docs/pictures/limits.svg?sanitize=true
///
#[doc = include_str!("limits.md")]
pub mod limits {}

#[doc = include_str!("security.md")]
pub mod security {}

#[doc = include_str!("failure_modes.md")]
///
/// <!-- Room for the numbers of more than 99 tests. -->
/// <style>.footnotes > ol { padding-left: 3em; }</style>
pub mod failure_modes {}

#[doc = include_str!("tenants.md")]
pub mod tenants {}

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

/// A run, the stack, a refresh, a hold and the constraints of a request as pictures.
///
/// They are described in [`ordering`], [`client_credentials`](crate::client_credentials),
/// [`rate_limit_retry`](crate::rate_limit_retry) and [`limits`].
///
/// # A run
///
#[doc = include_str!("pictures/quickstart.svg")]
///
/// `cargo run -p quickstart -- --plot FILE.svg` draws it: 64 workers, 120 requests every 2 s, tokens of 5 s, all revoked once.
/// When the quota is exhausted, all requests wait until its reset, which the API announces in whole seconds. The first
/// request after that is sent alone, to find whether the window has begun. After the revocation, the rejected requests share
/// one token request. Token 3 is fetched while token 2 is still valid, so no request waits for it.
///
/// # The stack
///
#[doc = include_str!("pictures/stack.svg")]
///
/// # A refresh
///
#[doc = include_str!("pictures/refresh.svg")]
///
/// Before a token expires there is a lead time, which varies a little. The first request in it starts a refresh and is
/// sent with token 1, as are the next ones. No request waits. If the fetch fails, it is retried after a back-off, for all
/// callers together, and token 1 stays in use until it expires. Only if no fetch has succeeded by then do requests wait, or
/// fail during the back-off: without a token, no request is sent.
///
/// # A hold
///
#[doc = include_str!("pictures/hold.svg")]
///
/// One rejected request is enough: the others wait where they are, without holding readiness, and are sent in the order in
/// which they arrived. A request that may not wait that long fails immediately: with the server's own 429, or with
/// [`RateLimited`](crate::rate_limit_retry::RateLimited) if it was not sent. If the server announces its quotas, no request
/// is rejected: the partition is held when nothing remains.
///
/// # What limits a request
///
#[doc = include_str!("pictures/limits.svg")]
pub mod pictures {}

#[doc = include_str!("runbook.md")]
pub mod runbook {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("changelog.md")]
pub mod changelog {}
