//! The path of a request, once for all layers that send requests.
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
//!   Policy::is_final ── yes ─▶ on_final ─▶ response          (fast path only; no side effect in the question)
//!          │ no
//!   Policy::on_response
//!     ├─ Return         ─▶ response or error
//!     ├─ Retry          ─▶ drain, wait ─▶ admit …            (the copy)
//!     └─ Reauthenticate ─▶ another credential ─▶ admit …     (the copy); without one, the response
//! ```
//!
//! A [`Policy`] says what a layer adds at each of these points; the path knows nothing of tokens or quotas. There are three
//! policies: the token's, the limits', and [`stack`](crate::stack)'s, which is made of the two.
//!
//! # What a warm request touches
//!
//! Each thread has a policy value of its own, in a [`Sharded`](crate::sharded::Sharded). A request whose token is at hand
//! and whose partition has never reported a limit:
//!
//! | what | written by | cache line |
//! |---|---|---|
//! | the shard's reference count, local token, last partition | requests of this thread | the shard's own, 128-byte aligned |
//! | the token cache's generation | a token that is published or rejected | shared, read only |
//! | whether the partition is open | the gate, when that changes | shared, read only |
//! | the counter of successes | requests of this thread | the shard's own |
//!
//! It allocates once: the copy of the request, if its body can be sent again. It takes no lock that another thread writes, and
//! reads the clock once.
//!
//! # Lock order
//!
//! Locks are held for assignments only, and are not nested, with one exception: the token cache locks its refresh state before
//! its snapshot (`client_credentials/cell.rs`). The locks of local state are only tried: where threads outnumber shards, the
//! shared state is read instead. No lock is held while a waker is called or dropped, while a user's closure or an event sink
//! runs, or over an `.await`.

pub(crate) mod copy;
pub(crate) mod drain;
mod drive;
mod future;
mod policy;
mod service;

pub(crate) use self::{
    drive::in_time,
    future::ResponseFuture,
    policy::{Begin, Next, Policy, Started},
    service::call,
};
