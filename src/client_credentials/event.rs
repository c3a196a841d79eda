//! Events about tokens.
//!
//! A fetch emits `FetchStarted`, any number of `FetchRetrying`, and then exactly one of `Fetched`, `LoadedFromStore`,
//! `RefreshSuppressed`, `FetchFailed` and `FetchSuperseded`. If its task is aborted or its runtime ends, the last one
//! is missing. A check for a changed secret that finds none emits nothing.

use std::time::Duration;

use super::{FetchReason, NonConformance, StoreError, TokenError};
use crate::{Misuse, Origin, sinks::EventType};

/// An event in the life of a token. Borrowed, and free of secrets.
///
/// The closures set with [`on_event`](super::ClientCredentialsLayerBuilder::on_event) receive it, outside every lock.
///
/// Events are values for the program. The features `tracing` and `metrics` turn the same events into log lines and
/// metrics, without a sink of your own.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::TokenEvent;
///
/// fn sink(event: &TokenEvent<'_>) {
///     if let TokenEvent::FetchFailed { error, .. } = event {
///         eprintln!("{error}");
///     }
/// }
/// # let _: fn(&TokenEvent<'_>) = sink;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum TokenEvent<'a> {
    /// A fetch begins.
    #[non_exhaustive]
    FetchStarted {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// What made the fetch necessary.
        reason: FetchReason,
    },
    /// An attempt within a fetch failed, and another one follows.
    #[non_exhaustive]
    FetchRetrying {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// Which attempt failed; 1 for the first of the fetch.
        attempt: u32,
        /// How long it takes until the next one.
        wait: Duration,
        /// Why it failed.
        error: &'a TokenError,
    },
    /// A token was fetched and published.
    #[non_exhaustive]
    Fetched {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// What made the fetch necessary.
        reason: FetchReason,
        /// How long the fetch took.
        elapsed: Duration,
        /// The token's lifetime; `None` if it does not expire.
        expires_in: Option<Duration>,
    },
    /// A token that another process obtained was loaded from the store and published.
    #[non_exhaustive]
    LoadedFromStore {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// What made the fetch necessary.
        reason: FetchReason,
        /// How long the fetch took, including the wait for the other process.
        elapsed: Duration,
        /// The token's lifetime, counted from the token request of the other process; `None` if it does not expire.
        expires_in: Option<Duration>,
    },
    /// A rejected token was not replaced: another process replaced it a moment ago, and the cooldown is shared.
    #[non_exhaustive]
    RefreshSuppressed {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
    },
    /// The token store failed. Until it recovers, tokens are fetched as they would be without a store. Emitted once
    /// until then.
    #[non_exhaustive]
    StoreFailed {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// The cause.
        error: &'a StoreError,
    },
    /// The token store works again.
    #[non_exhaustive]
    StoreRecovered {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
    },
    /// A fetch failed. A token that is still valid remains in use.
    #[non_exhaustive]
    FetchFailed {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// What made the fetch necessary.
        reason: FetchReason,
        /// How long the fetch took.
        elapsed: Duration,
        /// The error that every caller receives, with the time of the next attempt.
        error: &'a TokenError,
    },
    /// A fetch ended after it had been superseded. Its result is ignored.
    #[non_exhaustive]
    FetchSuperseded {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// What made the fetch necessary.
        reason: FetchReason,
    },
    /// The token is a JWT bound to a key or a certificate (`cnf`, RFC 7800 §3.1). It is still sent as a bearer token.
    /// An API that checks the binding accepts it only over a connection with that certificate. Not emitted for tokens
    /// of an endpoint with `TokenEndpoint::dpop`, which are sent with proofs, or with
    /// `TokenEndpoint::certificate_bound`.
    #[non_exhaustive]
    BoundToken {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
    },
    /// The certificate that the token is bound to was replaced (RFC 8705 §6.2). The token is no longer used, and another
    /// one is fetched.
    #[non_exhaustive]
    CertificateChanged {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
    },
    /// The token is bound to another certificate than the API's client presents (RFC 8705 §3). Emitted for each token
    /// with `CertificateMismatch::Warn`, and after a 401 whose response has the
    /// [`CertificateThumbprint`](super::CertificateThumbprint) of another certificate as an extension.
    #[non_exhaustive]
    CertificateMismatch {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
    },
    /// The source of a secret failed, or the server rejected its secret. The last secret for which a token was issued
    /// is used instead.
    #[non_exhaustive]
    FallbackSecretUsed {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// The cause.
        error: &'a TokenError,
    },
    /// The metadata of the issuer or of the API could not be refreshed, or the new metadata was rejected. The previous
    /// metadata remains in use.
    #[non_exhaustive]
    MetadataRejected {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// The cause.
        error: &'a TokenError,
    },
    /// The endpoint's response deviated from the standard but was accepted.
    #[non_exhaustive]
    NonConformingResponse {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// The deviation.
        non_conformance: NonConformance,
    },
    /// The layer is used in a way that defeats its purpose. Emitted once per layer.
    #[non_exhaustive]
    Misused {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// The mistake.
        misuse: Misuse,
    },
    /// A configured value began or ended with line breaks, blank lines, a byte order mark or NUL characters. It is used
    /// without them. Emitted with the first token request that uses the value.
    #[non_exhaustive]
    ValueTrimmed {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// The key or the variable of a [`Config`](super::Config), or a name such as `client secret`.
        setting: &'a str,
    },
    /// A setting violates an RFC. It is sent unchanged, because some servers require it. Emitted once per
    /// endpoint, with its first token request.
    #[non_exhaustive]
    NonstandardSetting {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// The request parameter of the setting, such as `resource`.
        setting: &'a str,
        /// The broken rule.
        rule: &'static str,
    },
    /// A certificate in the file of trusted certificates cannot be used. The others are used. Emitted once per
    /// endpoint, with its first token request.
    #[non_exhaustive]
    CertificateSkipped {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// The key or the variable of the [`Config`](super::Config) that names the file.
        setting: &'a str,
        /// The certificate, and what is wrong with it.
        problem: &'a str,
    },
    /// The token could not be revoked on shutdown. It is valid until it expires.
    #[non_exhaustive]
    RevocationFailed {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// The cause.
        error: &'a TokenError,
    },
    /// The token was revoked on shutdown.
    #[non_exhaustive]
    Revoked {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
    },
    /// An API rejected the token with a 401.
    #[non_exhaustive]
    Rejected {
        /// Name of the credential; `None` if it has none.
        credential: Option<&'a str>,
        /// The origin of the API.
        origin: &'a Origin,
        /// The action that follows.
        action: RejectionAction,
    },
}

/// Action that follows a 401.
///
/// A high rate of `Returned` means that new tokens do not help: check the permissions of the client and the clocks.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{RejectionAction, TokenEvent};
///
/// fn sink(event: &TokenEvent<'_>) {
///     let TokenEvent::Rejected { origin, action, .. } = event else { return };
///     if *action == RejectionAction::RefreshedOnly {
///         eprintln!("{origin} rejected our token, and the body of the request was gone");
///     }
/// }
/// # let _: fn(&TokenEvent<'_>) = sink;
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RejectionAction {
    /// Another token was obtained. The request is sent once more with it.
    Replayed,
    /// There is another token, or one is being fetched, but the request cannot be sent again: there is no copy of it.
    RefreshedOnly,
    /// The 401 is returned. There is no other token, or it is too soon to request one.
    Returned,
}

/// Event type of the sinks for [`TokenEvent`]s.
#[derive(Debug)]
pub(crate) struct TokenEvents;

impl EventType for TokenEvents {
    type Event<'a> = TokenEvent<'a>;
}
