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
//! A request that finds a usable token waits for no lock and reads one counter that other threads write when the token
//! changes: the header comes from a copy that the request's thread keeps at hand. With
//! [`replay(false)`](ClientCredentialsLayerBuilder::replay), or a body that cannot be cloned, it allocates nothing. Otherwise
//! one allocation keeps a copy of the request, so that it can be sent again, together with a clone of the inner service and
//! what cloning the body and the request's extensions allocates. A head of more than 4 KiB, a wait and a replay allocate
//! more.
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
mod handle;
mod layer;
mod local;
mod policy;
mod quirk;
mod reason;
mod redact;
mod service;
mod settings;
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
pub use self::{
    authorize::{ExistingCredential, ForeignOrigin, HostMismatch},
    cell::TokenVersion,
    challenge::Challenge,
    config::{Config, ConfigError},
    context::{FetchContext, Rejected, RevokeContext},
    endpoint::{
        AssertionAudience, ClientAuth, ClientAuthentication, Grant, RevocationEndpoint, SecretFile,
        SecretSource, SecretVariable, TokenEndpoint, TokenExchange, TokenRequest,
    },
    error::{CredentialPresent, OriginNotAllowed, TokenError, TokenErrorKind},
    event::{Remedy, TokenEvent},
    handle::{TokenHandle, TokenStatus},
    layer::{ClientCredentialsLayer, ClientCredentialsLayerBuilder},
    quirk::Quirk,
    reason::FetchReason,
    service::{ClientCredentials, ResponseFuture},
    source::{SharedTokenSource, TokenSource},
    store::{
        CacheIdentity, Lease, LeaseHolder, StoreError, StoreErrorKind, StoredToken, TokenStore,
    },
    token::{AccessToken, TokenIdentity},
};
pub(crate) use self::{
    cell::Refusal,
    event::TokenEvents,
    exchange::{AuthCall, Exchange, Sent},
    policy::AuthPolicy,
};
pub use crate::secret::{Secret, SecretBytes};
