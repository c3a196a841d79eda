//! Rate limiting and retries: admit a request, send it, record the response, then return or retry.
//!
//! ```text
//! call ─▶ keys ─▶ gate.admit(now) ── wait? release readiness · sleep ─▶ poll_ready
//!   └▶ inner.call ─▶ headers.read ─▶ quota.record ─▶ decide
//!        ├ return ─▶ out (with `Attempts`, if more than one)
//!        ├ retry ─▶ event · drain the response · wait · poll_ready
//!        └ give up ─▶ event · the server's own response ─▶ out
//! ```
//!
//! # Guarantees
//!
//! - All clones of a layer share what a response reports about a quota: one 429 holds every request that the quota
//!   counts until the reset. After the hold, requests are admitted gradually.
//! - A wait that the server requests is a lower bound. If it exceeds the caller's limits, the layer does not shorten
//!   it: it returns the server's own response at once.
//! - A 429 is retried for every method, because by convention the request was not processed. 502, 503, 504 and broken
//!   connections are retried for idempotent methods only. Connections that were never made are retried for every
//!   method.
//! - A waiting request holds neither readiness nor a lock. A call that is dropped leaves no state behind.
//!
//! # Cost
//!
//! One allocation keeps a copy of the request for a retry, if its body can be cloned. After 1,000 consecutive responses
//! of a partition without limits, its requests take no lock of the layer. Neither do those to a partition that
//! announces its quota, while much of it remains: each thread counts its own requests, and reads of a response only the
//! number that remains. Neither applies if the layer has a store, custom partitions or costs.
//! Otherwise a request takes the layer's lock before it is sent and after its response, each time for assignments only,
//! and allocates more if the response has fields about limits. The future is boxed for requests that wait, have a
//! [`deadline`](RateLimitRetryLayerBuilder::deadline) or are retried.
//!
//! # What limits a request
//!
//! | limit | source | setting |
//! |---|---|---|
//! | pause | the program, by [`QuotaHandle::pause`] | |
//! | hold | a 429 or a similar response | [`max_hold`], [`backoff`], [`unavailable_scope`] |
//! | local limit | the program | [`limit`], [`limit_for`], [`preset`] |
//! | announced quotas | fields such as `RateLimit` or `X-RateLimit-*`; each quota by its name and in its unit | [`profile`], [`pacing`], [`cost`] |
//! | estimate | earlier rejections of a server that announces nothing | |
//! | concurrency limit | fields such as `x-concurrency-limit`; rejections while other requests are in flight | |
//! | slow start | a new partition, or the end of a hold | [`initial_window`], [`initial_window_timeout`] |
//! | fleet quota | the program, enforced through a store | [`StoredQuotas::fleet_quota`] |
//!
//! All of them apply at once, to each partition of the request. A request is sent when every limit allows it. The guide
//! [`limits`](crate::docs::limits) explains them.
//!
//! # What a caller receives
//!
//! | situation | result |
//! |---|---|
//! | the request was sent, and no retry is necessary | the response or error of the inner service |
//! | it was sent, and a retry is not possible or not allowed | the server's own response, with [`GaveUp`] |
//! | it was not sent, because the wait would be too long | [`RateLimited`] |
//! | it was not sent, because too many requests wait | [`QueueFull`] |
//! | it was not sent, because it costs more than a limit allows | [`CostTooHigh`] |
//! | the call took longer than its deadline | [`DeadlineExceeded`] |
//!
//! # Where to start reading
//!
//! `policy` is the entry point from the request path. `limiter` contains the steps of one call.
//!
//! | module | contents |
//! |---|---|
//! | `layer`, `builder`, `service`, `policy` | the layer, its settings, its service, and the methods that the request path calls |
//! | `limiter` | the steps of one call: admission, waits, outcomes |
//! | `gate` | admits requests and queues waiters; it owns one `quota` per partition |
//! | `quota`, `local_limits` | the model of the limits; the limits that the program sets |
//! | `fast_path` | requests of partitions without limits, or with much of a quota left, skip the gate |
//! | `headers`, `header_reader` | the parser of fields, which depends on nothing else in this module, and its use |
//! | `partition`, `route`, `resources` | partition keys, routes held by a 503, and named quotas with routes of their own |
//! | `cost`, `cost_settings`, `cost_used`, `usage` | costs, their settings, the handle that reports them, and the layer that reads them in bodies |
//! | `decide`, `budget`, `permanent_errors` | the table of retry rules, the retry budget, and errors that are not retried |
//! | `peek` | reads a prefix of the body of a rejection |
//! | `event`, `error`, `handle` | what the layer reports |
//! | `store` | shares quotas between processes, beside the request path |
//! | `boottime` | the clock, which continues while the machine is suspended |
//!
//! [`backoff`]: RateLimitRetryLayerBuilder::backoff
//! [`cost`]: RateLimitRetryLayerBuilder::cost
//! [`initial_window`]: RateLimitRetryLayerBuilder::initial_window
//! [`initial_window_timeout`]: RateLimitRetryLayerBuilder::initial_window_timeout
//! [`limit`]: RateLimitRetryLayerBuilder::limit
//! [`limit_for`]: RateLimitRetryLayerBuilder::limit_for
//! [`max_hold`]: RateLimitRetryLayerBuilder::max_hold
//! [`pacing`]: RateLimitRetryLayerBuilder::pacing
//! [`preset`]: RateLimitRetryLayerBuilder::preset
//! [`profile`]: RateLimitRetryLayerBuilder::profile
//! [`unavailable_scope`]: RateLimitRetryLayerBuilder::unavailable_scope

mod boottime;
mod budget;
mod builder;
mod cost;
mod cost_settings;
mod cost_used;
mod decide;
mod error;
mod event;
mod fast_path;
mod gate;
mod handle;
mod header_reader;
pub mod headers;
mod layer;
mod limiter;
mod local_limits;
mod partition;
mod peek;
mod permanent_errors;
mod policy;
mod quota;
mod resources;
mod route;
mod service;
mod store;
mod usage;

#[cfg(feature = "test-util")]
pub(crate) use self::store::MemoryQuota;
#[cfg(feature = "redis")]
pub use self::store::RedisQuotaStore;
pub use self::{
    builder::RateLimitRetryLayerBuilder,
    cost::Cost,
    cost_used::CostUsed,
    decide::GiveUpReason,
    error::{CostTooHigh, DeadlineExceeded, QueueFull, RateLimited},
    event::{GaveUp, RateLimitEvent},
    handle::{QuotaHandle, QuotaStatus},
    layer::RateLimitRetryLayer,
    local_limits::{LocalLimit, Preset},
    partition::PartitionKey,
    peek::{BodyPrefix, PeekBody, PeekBodyFuture, PeekBodyLayer},
    permanent_errors::ErrorResponse,
    quota::Pacing,
    route::UnavailableScope,
    service::{RateLimitRetry, ResponseFuture},
    store::{
        AnnouncedQuota, FleetQuota, ProcessId, QuotaReport, QuotaSnapshot, QuotaStore, Reservation,
        SharedWindow, StoredQuotas, WindowId, WindowReport,
    },
    usage::{ReadUsage, ReadUsageFuture, ReadUsageLayer, UsageBody},
};
pub(crate) use self::{
    event::RateLimitEvents,
    gate::{Admission, Permit},
    limiter::{Call, Limiter},
    policy::{Begun, LimitPolicy},
};
pub use crate::peek::PeekedBody;
