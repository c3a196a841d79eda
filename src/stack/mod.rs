//! Both layers as one service, in the right order, with one copy of each request.
//!
//! ```text
//! call ─ may the token go there? ── no ─▶ refused
//!   │ yes
//!   ├─ no usable token, or the quota is used up? ─▶ give back readiness · token · ticket · poll_ready
//!   ├─ copy the request, once for both
//!   ├─ authorize ─▶ inner.call ─▶ learn about the quota
//!   ├─ 401 about our token ─▶ another token · another ticket · poll_ready · send the copy
//!   ├─ 429, 503, not sent  ─▶ wait · token · ticket · poll_ready · send the copy
//!   └─ anything else ─▶ out
//! ```
//!
//! It does what the two layers do that it is made of, and two things that they cannot do when they are stacked one by
//! one, because they don't know of each other:
//!
//! - One copy of a request serves both, instead of one each.
//! - A replay after a 401 is charged to the quota like any other request: it waits for its turn.
//!
//! The origin is checked before a request gets a place in the queue, and a request that waits for its quota carries no
//! token: it gets the current one when it goes.

mod layer;
mod policy;
mod service;

pub use self::{
    layer::M2mLayer,
    service::{M2m, ResponseFuture},
};
