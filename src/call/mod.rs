//! Request path, shared by all layers that send requests.
//!
//! ```text
//! Service::call
//!   Policy::begin ── error ──────────────▶ not sent
//!     │ Ready (fast path)      │ Wait (slow path: `drive`, boxed)
//!     │                        ├─▶ Policy::admit: wait for a token, a permit
//!     │                        │   Service::ready
//!     │                        │   Policy::start: is what was waited for still valid? ── no ─▶ admit again
//!     ├─ copy the request      ├─ copy the request
//!     ├─ Policy::authorize     ├─ Policy::authorize
//!     └─ inner.call            └─ inner.call
//!          │                        │
//!   Policy::finish ── yes ─▶ response                        (fast path only)
//!          │ no
//!   Policy::on_response
//!     ├─ Return         ─▶ response or error
//!     ├─ Retry          ─▶ drain, wait ─▶ admit …            (the copy)
//!     └─ Reauthenticate ─▶ another credential ─▶ admit …     (the copy); without one, the response
//! ```
//!
//! A [`Policy`] defines what a layer does at each of these points. The path itself is independent of tokens and limits.
//! There are three policies: that of the token, that of the limits, and that of [`stack`](crate::stack), which combines
//! the two.
//!
//! # Cost of a warm request
//!
//! Each thread has its own policy value, in a [`Sharded`](crate::sharded::Sharded). A request with a usable token reads
//! and writes the following, if its partition has never reported a limit, or much of its announced quota remains:
//!
//! | what | written by | cache line |
//! |---|---|---|
//! | the shard's reference count, local token, partitions | requests of this thread | the shard's own, 128-byte aligned |
//! | the token cache's generation | publication and rejection of a token | shared, read only |
//! | whether the partition is open, or the terms of its credits | the gate, when they change | shared, read only |
//! | the credits of this thread, and the template of the server's fields | requests of this thread | the shard's own |
//! | the counter of successes | requests of this thread | the shard's own |
//!
//! It allocates once, for the copy of the request, if its body can be sent again. It takes no lock that another thread
//! writes, and reads the clock once. One request in 512 to an announced quota goes through the gate.
//!
//! # Lock order
//!
//! Locks are held for assignments only, and are not nested, with one exception: the token cache locks its refresh state
//! before its snapshot, and before the state of an overdue fetch (`client_credentials/cache.rs`). The locks of local
//! state are only tried: if threads outnumber shards, the shared state is read instead. No lock is held while a waker
//! is called or dropped, while a user's closure or an event sink runs, or across an `.await`.

pub(crate) mod copy;
pub(crate) mod drain;
mod drive;
mod future;
mod policy;
mod service;

pub(crate) use self::{
    drive::with_deadline,
    future::ResponseFuture,
    policy::{Begin, Next, Policy, Started},
    service::call,
};
