//! What the layer tells about its tokens while it works.

use std::time::Duration;

use super::{FetchReason, Quirk, StoreError, TokenError};
use crate::{Misuse, Origin, sinks::Family};

/// Something happened to a token. Borrowed, and without secrets.
///
/// Given to the closures set with
/// [`on_event`](super::ClientCredentialsLayerBuilder::on_event), outside every lock.
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
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// What made it necessary.
        reason: FetchReason,
    },
    /// An attempt within a fetch failed, and another one follows.
    #[non_exhaustive]
    FetchRetrying {
        /// The credential's name, if it was given one.
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
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// What made it necessary.
        reason: FetchReason,
        /// How long the fetch took.
        elapsed: Duration,
        /// The token's lifetime; `None` if it does not expire.
        expires_in: Option<Duration>,
    },
    /// A token that another process was granted was found in the store and published.
    #[non_exhaustive]
    Adopted {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// What made it necessary.
        reason: FetchReason,
        /// How long it took, waiting for the other process included.
        elapsed: Duration,
        /// The token's lifetime, counted from when the other process asked for it.
        expires_in: Option<Duration>,
    },
    /// A refused token was not replaced: another process had it replaced just now, and the cooldown is shared.
    #[non_exhaustive]
    HeldBack {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
    },
    /// The token store does not work. Tokens are fetched as they would be without it until it does. Told once.
    #[non_exhaustive]
    StoreFailed {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// Why.
        error: &'a StoreError,
    },
    /// The token store works again.
    #[non_exhaustive]
    StoreRecovered {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
    },
    /// A fetch failed. A token that was valid before is still in use.
    #[non_exhaustive]
    FetchFailed {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// What made it necessary.
        reason: FetchReason,
        /// How long the fetch took.
        elapsed: Duration,
        /// What every caller is told, with the time of the next attempt.
        error: &'a TokenError,
    },
    /// A fetch came to an end after others had given it up; what it brought is ignored.
    #[non_exhaustive]
    FetchIgnored {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// What had made it necessary.
        reason: FetchReason,
    },
    /// The token is a JWT bound to a key or a certificate (`cnf`, RFC 7800 §3.1). It is sent as a bearer token all the
    /// same; an API that checks the binding accepts it only over a connection with that certificate.
    #[non_exhaustive]
    BoundToken {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
    },
    /// The source of a secret failed, or the server refused what it gave. The secret for which a token was last granted is
    /// used instead.
    #[non_exhaustive]
    KeptSecretUsed {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// Why.
        error: &'a TokenError,
    },
    /// The issuer's metadata could not be renewed, or was not adopted; what was known before is still in use.
    #[non_exhaustive]
    MetadataNotAdopted {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// Why.
        error: &'a TokenError,
    },
    /// The endpoint's answer was odd in some way, and was understood all the same.
    #[non_exhaustive]
    QuirkMet {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// In which way.
        quirk: Quirk,
    },
    /// The layer is used in a way that works against it. Emitted once for each layer.
    #[non_exhaustive]
    Misused {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// What is wrong.
        misuse: Misuse,
    },
    /// A configured value had line breaks, blank lines, a byte order mark or NUL characters at an end; it is used without
    /// them. Emitted with the first token request that uses the value.
    #[non_exhaustive]
    ValueTrimmed {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// Which value: the key or the variable of a [`Config`](super::Config), or a name such as `client secret`.
        setting: &'a str,
    },
    /// A setting breaks a rule of an RFC. It is sent as it is, because there are servers that want it so. Emitted once
    /// for each endpoint, with its first token request.
    #[non_exhaustive]
    NonstandardSetting {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// The parameter that the setting becomes, such as `resource`.
        setting: &'a str,
        /// The rule.
        rule: &'static str,
    },
    /// A certificate in the file with trusted certificates cannot be used; the others are. Emitted once for each
    /// endpoint, with its first token request.
    #[non_exhaustive]
    CertificateSkipped {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// The key or the variable of the [`Config`](super::Config) that names the file.
        setting: &'a str,
        /// Which certificate, and what is wrong with it.
        problem: &'a str,
    },
    /// The token could not be revoked on shutdown; it is valid until it expires.
    #[non_exhaustive]
    RevocationFailed {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// Why.
        error: &'a TokenError,
    },
    /// The token was revoked on shutdown.
    #[non_exhaustive]
    Revoked {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
    },
    /// An API refused our token with a 401.
    #[non_exhaustive]
    Refused {
        /// The credential's name, if it was given one.
        credential: Option<&'a str>,
        /// The API.
        origin: &'a Origin,
        /// What follows.
        remedy: Remedy,
    },
}

/// What follows a 401.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{Remedy, TokenEvent};
///
/// fn sink(event: &TokenEvent<'_>) {
///     if let TokenEvent::Refused { origin, remedy: Remedy::NotReplayable, .. } = event {
///         eprintln!("{origin} refused our token, and the body of the request was gone");
///     }
/// }
/// # let _: fn(&TokenEvent<'_>) = sink;
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Remedy {
    /// The request is sent once more with another token.
    Replay,
    /// There is another token, or it is asked for, but the request cannot be sent again: no copy of it could be kept.
    NotReplayable,
    /// The 401 is returned: there is no other token, or it is too soon to ask for one again.
    Stands,
}

/// The family of [`TokenEvent`]s.
#[derive(Debug)]
pub(crate) struct TokenEvents;

impl Family for TokenEvents {
    type Event<'a> = TokenEvent<'a>;
}
