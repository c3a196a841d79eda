//! Both layers as one service, in the right order, with one copy of each request.
//!
//! ```text
//! call ─ may the token be sent to this origin? ── no ─▶ error
//!   │ yes
//!   ├─ no usable token, or no quota? ─▶ release readiness · wait for both · poll_ready
//!   ├─ copy the request, once for both
//!   ├─ authorize ─▶ inner.call ─▶ record what the response says about the quota
//!   ├─ 401 about our token ─▶ new token · new permit · poll_ready · send the copy
//!   ├─ 429, 503, not sent  ─▶ wait · token · permit · poll_ready · send the copy
//!   └─ anything else ─▶ return
//! ```
//!
//! The service does everything that the two layers do, and two things that they cannot do when they are stacked
//! separately:
//!
//! - One copy of a request serves both layers, instead of one copy each.
//! - A replay after a 401 is charged to the quota like any other request: it waits for its permit.
//!
//! The origin is checked before a request enters the queue. A request that waits for its quota carries no token; it
//! receives the current one when it is sent.
//!
//! # Errors
//!
//! Those of both layers: see [`client_credentials`](crate::client_credentials) and
//! [`rate_limit_retry`](crate::rate_limit_retry).

mod layer;
mod policy;
mod service;

pub use self::{
    layer::{M2mHandle, M2mLayer},
    service::{M2m, ResponseFuture},
};
