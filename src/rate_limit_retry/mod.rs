//! Rate limits: request in, hold, send, learn, decide, and again.
//!
//! ```text
//! call ─▶ keys ─▶ gate.admit(now) ── wait? give back readiness · sleep ─▶ poll_ready
//!   └▶ inner.call ─▶ headers.read ─▶ quota.learn ─▶ decision ─┬ Return ─▶ out (with `Attempts`, if more than one)
//!                                                           ├ again ─▶ event · drain the response · wait · poll_ready
//!                                                           └ give up ─▶ event · the server's own response ─▶ out
//! ```
//!
//! # What it promises
//!
//! - What one response says about a quota is known to all clones: one 429 holds everybody until the reset, and then
//!   they are let out by and by.
//! - A server's hint is a lower bound. A hint beyond the caller's limits is never shortened: the server's own response
//!   is returned at once.
//! - 429 is retried for every method, because by convention nothing was processed; 502, 503, 504 and broken connections
//!   only for idempotent methods; connections that were never made for every method.
//! - Nobody waits while holding readiness or a lock. A caller who leaves leaves nothing behind.
//!
//! # What it costs
//!
//! One allocation keeps a copy of the request, so that it can be sent again, if its body can be cloned. Once 1,000 responses
//! of a partition have said nothing about limits, its requests take no lock of the layer's, unless the layer has a
//! deadline, a profile, a store or partitions of your own. Otherwise a request takes the layer's lock before it is sent
//! and after its response, each time for assignments only, and allocates more where the response has fields about
//! limits. Requests that wait, have a [`deadline`](RateLimitRetryLayerBuilder::deadline) or are sent again have a boxed
//! future.

mod boottime;
mod budget;
mod builder;
mod decision;
mod error;
mod event;
mod fast_path;
mod gate;
mod handle;
pub mod headers;
mod key;
mod layer;
mod limiter;
mod limits;
mod peek;
mod permanent;
mod policy;
mod quota;
mod reader;
mod route;
mod service;
mod store;

#[cfg(feature = "test-util")]
pub(crate) use self::store::Ledger;
#[cfg(feature = "redis")]
pub use self::store::RedisQuotaStore;
pub use self::{
    builder::RateLimitRetryLayerBuilder,
    decision::GiveUpReason,
    error::{DeadlineExceeded, HoldTooLong, TooManyWaiting},
    event::{GaveUp, RateLimitEvent},
    handle::{QuotaHandle, QuotaStatus},
    key::PartitionKey,
    layer::RateLimitRetryLayer,
    limits::{OwnLimit, Preset},
    peek::{BodyStart, PeekBody, PeekBodyLayer, PeekFuture},
    permanent::Refusal,
    quota::Release,
    route::UnavailableScope,
    service::{RateLimitRetry, ResponseFuture},
    store::{
        ExactQuota, ProcessId, QuotaReport, QuotaStore, QuotaView, SharedWindow, Slot,
        StoredQuotas, ToldQuota,
    },
};
pub(crate) use self::{
    event::RateLimitEvents,
    gate::{Admission, Ticket},
    limiter::{Call, Limiter},
    policy::{Begun, LimitPolicy},
};
pub use crate::peek::PeekedBody;
#[cfg(feature = "redis")]
pub use crate::store::StoreKeys;
pub use crate::store::{CacheIdentity, StoreError, StoreErrorKind};
