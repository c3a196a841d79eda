//! OAuth 2.0 client credentials (RFC 6749 §4.4): request in, token on, 401 out.
//!
//! ```text
//! call ─ foreign origin, or a Host that differs? ── yes ─▶ refused (or passed on without our token, if so configured)
//!   │ no
//!   ├─ token fresh? ── no ─▶ give back readiness · await the one refresh · poll_ready
//!   ├─ stale? start a refresh, do not wait
//!   ├─ copy the request if its body can be sent again
//!   ├─ authorize ─▶ inner.call ─▶ not 401 ─▶ out
//!   └─ 401 about our token ─▶ await another token · poll_ready · send the copy once ─▶ out
//! ```
//!
//! # What it promises
//!
//! - Any number of requests cost one token request, whoever is dropped meanwhile.
//! - Nobody waits for a refresh while the token is valid, and a failed refresh does not take a valid token away.
//! - A 401 for an old token never drops a new one; a request is replayed at most once; an API that always says 401
//!   costs one token request per cooldown.
//! - A failure is shared by all who wait, and remembered until its back-off is over.
//! - The token goes only to the allowed origins, over https (or to loopback). No token, no request.
//!
//! # What it costs
//!
//! A warm request takes a read lock and copies its head, so that it can be sent again; a request whose body cannot be
//! cloned is not copied.
//!
//! # What can go wrong
//!
//! See [`TokenError`], [`OriginNotAllowed`].

mod authorize;
mod cell;
mod challenge;
mod config;
mod context;
mod cooldown;
mod endpoint;
mod error;
mod event;
mod exchange;
mod failure;
mod flight;
mod freshness;
mod future;
mod handle;
mod layer;
mod near;
mod quirk;
mod redact;
mod service;
mod shutdown;
mod source;
mod store;
mod token;
mod tokens;
mod trim;
mod waiting;

#[cfg(feature = "jwt")]
pub use self::endpoint::{KeyAlgorithm, SecretAlgorithm, SignError, Signer, SigningKey};
#[cfg(feature = "redis")]
pub use self::store::{RedisTokenStore, StoreKeys};
pub(crate) use self::{
    authorize::Passage,
    cell::Refusal,
    event::TokenEvents,
    exchange::{Exchange, Sent},
    near::Near,
};
pub use self::{
    authorize::{ExistingCredential, ForeignOrigin, HostMismatch},
    cell::TokenVersion,
    challenge::Challenge,
    config::{Config, ConfigError},
    context::{FetchContext, FetchReason, Rejected, RevokeContext},
    endpoint::{
        AssertionAudience, ClientAuth, ClientAuthentication, Grant, RevocationEndpoint, SecretFile,
        SecretSource, SecretVariable, TokenEndpoint, TokenExchange, TokenRequest,
    },
    error::{CredentialPresent, OriginNotAllowed, TokenError, TokenErrorKind},
    event::{Remedy, TokenEvent},
    future::ResponseFuture,
    handle::{TokenHandle, TokenStatus},
    layer::{ClientCredentialsLayer, ClientCredentialsLayerBuilder},
    quirk::Quirk,
    service::ClientCredentials,
    source::{SharedTokenSource, TokenSource},
    store::{
        CacheIdentity, Lease, LeaseHolder, StoreError, StoreErrorKind, StoredToken, StoredTokens,
        TokenStore,
    },
    token::{AccessToken, TokenIdentity},
};
pub use crate::secret::{Secret, SecretBytes};
