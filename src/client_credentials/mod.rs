//! OAuth 2.0 client credentials (RFC 6749 §4.4): adds an access token to each request, refreshes it, and replays a
//! request once after a 401.
//!
//! ```text
//! call ─ foreign origin, or a Host that differs? ── yes ─▶ refused, unless configured otherwise
//!   │ no
//!   ├─ token fresh? ── no ─▶ give back readiness · await the one refresh · poll_ready
//!   ├─ stale? start a refresh, do not wait
//!   ├─ copy the request if its body can be sent again
//!   ├─ authorize ─▶ inner.call ─▶ not 401 ─▶ out
//!   └─ 401 about our token ─▶ await another token · poll_ready · send the copy once ─▶ out
//! ```
//!
//! # Guarantees
//!
//! - Concurrent requests share one token request. It continues if the caller that started it is dropped.
//! - No request waits for a refresh while the token is valid. A failed refresh does not discard a valid token.
//! - A 401 for an old token never discards a newer one. A request is replayed at most once. An API that always answers
//!   401 causes one token request per cooldown.
//! - All callers that wait receive the same failure. It is remembered until its back-off ends.
//! - The token is sent only to allowed origins, over https or to loopback. A request that needs a token is never sent
//!   without one.
//!
//! # Cost
//!
//! A request that finds a usable token waits for no lock. It reads one counter that other threads write when the token
//! changes; the header value comes from the thread's local copy. With
//! [`replay(false)`](ClientCredentialsLayerBuilder::replay), or with a body that cannot be cloned, it allocates
//! nothing. Otherwise one allocation holds a copy of the request for a replay, together with a clone of the inner
//! service; cloning the body and the request's extensions may allocate more. A head of more than 4 KiB, a wait and a
//! replay also allocate.
//!
//! # Errors
//!
//! See [`TokenError`], [`OriginNotAllowed`] and [`CredentialAlreadyPresent`].
//!
//! # Where to start reading
//!
//! The code is layered. Each part knows only those below it:
//!
//! | part | modules | task |
//! |---|---|---|
//! | service | `layer`, `service`, `policy` | one call: token, attempt, 401, replay |
//! | rules | `auth`, `authorize`, `challenge` | where the token may go, and what a 401 means |
//! | proofs | `prove`, `proof`, `prover`, `proof_servers` | proofs of possession for bound tokens |
//! | token | `local`, `refresher`, `certificate_watch`, `scoped_tokens`, `step_up`, `waiting`, `shutdown` | copies per thread, tasks of fetches, waiting callers |
//! | state | `cache`, `in_flight`, `cooldown`, `backoff_state`, `freshness` | decisions without a runtime or a clock |
//! | source | `endpoint`, `store`, `source` | token requests, and tokens of other processes |
//!
//! `policy` and `cache` are the two files to begin with: the first shows what happens to a request, the second what
//! happens to the token. All decisions about time take the time as an argument, so that tests and models set it.

mod auth;
mod authorize;
mod backoff_state;
mod cache;
mod certificate_thumbprint;
mod certificate_watch;
mod challenge;
mod config;
mod context;
mod cooldown;
mod endpoint;
mod error;
mod event;
mod freshness;
mod handle;
mod in_flight;
mod layer;
mod local;
mod non_conformance;
mod policy;
mod proof;
mod proof_servers;
mod prove;
mod prover;
mod reason;
mod redact;
mod refresher;
mod scoped_source;
mod scoped_tokens;
mod service;
mod settings;
mod shutdown;
mod source;
mod step_up;
mod store;
mod token;
mod token_scope;
mod trim;
mod waiting;

#[cfg(any(feature = "dpop", feature = "https"))]
pub use self::endpoint::BearerAnswer;
#[cfg(feature = "client")]
pub(crate) use self::endpoint::Connector;
#[cfg(feature = "jwt")]
pub use self::endpoint::{
    AssertionClaims, CertificateHeader, GoogleServiceAccount, KeyAlgorithm, SecretAlgorithm,
    SignError, Signer, SigningKey,
};
#[cfg(feature = "https")]
pub use self::endpoint::{CertificateBound, CertificateMismatch, Proxy};
#[cfg(feature = "dpop")]
pub use self::endpoint::{Dpop, DpopKey};
#[cfg(feature = "redis")]
pub use self::store::RedisTokenStore;
pub(crate) use self::{
    auth::{Auth, AuthCall, SentWith},
    cache::Rejection,
    event::TokenEvents,
    policy::AuthPolicy,
    proof::Proof,
};
pub use self::{
    authorize::{ExistingCredential, ForeignOrigin, HostMismatch},
    cache::TokenGeneration,
    certificate_thumbprint::{CertificateThumbprint, InvalidThumbprint},
    challenge::Challenge,
    config::{Config, ConfigError},
    context::{FetchContext, RejectedToken, RevokeContext},
    endpoint::{
        AssertionAudience, ClientAuth, ClientAuthentication, Grant, IdentityAssertion,
        ProtectedResource, RevocationEndpoint, SecretFile, SecretSource, SecretVariable,
        TokenEndpoint, TokenExchange, TokenRequest,
    },
    error::{CredentialAlreadyPresent, OriginNotAllowed, TokenError, TokenErrorKind},
    event::{RejectionAction, TokenEvent},
    handle::{TokenHandle, TokenStatus},
    layer::{ClientCredentialsLayer, ClientCredentialsLayerBuilder},
    non_conformance::NonConformance,
    reason::FetchReason,
    service::{ClientCredentials, ResponseFuture},
    source::{BoxTokenSource, TokenSource},
    store::{Lease, LeaseId, StoredToken, TokenStore},
    token::{AccessToken, TokenFingerprint},
    token_scope::TokenScope,
};
pub use crate::secret::{Secret, SecretBytes};
use crate::store::{CacheKey, StoreError};
