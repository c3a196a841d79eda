//! A value in several shards, so that threads update reference counts, and keep local state, on cache lines of their own.
//!
//! A single `Arc` that every request clones becomes the bottleneck on several threads, because each clone writes to the same
//! cache line.
//!
//! | operation | cost |
//! |---|---|
//! | clone of a [`Sharded`] | one write to the table's reference count |
//! | [`Sharded::local`] | one read of a thread-local number, one of the table |
//! | clone of the local [`Shard`] | one write to a cache line of this thread |
//!
//! Values in different shards are independent: whatever threads must agree on is behind an `Arc` that all shards
//! contain. More threads than shards share one, so a shard must be `Sync`, and its locks are only tried on the path of
//! a request.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

/// A value in several shards, at least one per thread that can run at once (at most 64). Cheap to clone.
pub(crate) struct Sharded<T>(Arc<Table<T>>);

/// The list of shards. Aligned, so that cloning a service, which writes to the count before it, does not invalidate the
/// line that requests read here.
#[repr(align(128))]
struct Table<T>(Box<[Arc<Shard<T>>]>);

/// One of the shards; usually a single thread uses it. A request that holds it writes to this shard's reference count and
/// to no other. Aligned, so that neither its count nor its content shares a cache line with another shard's.
#[repr(align(128))]
pub(crate) struct Shard<T>(T);

impl<T> Sharded<T> {
    /// Creates the shards by calling `shard` for each.
    pub(crate) fn new(shard: impl Fn() -> T) -> Self {
        let shards = (0..shards()).map(|_| Arc::new(Shard(shard()))).collect();
        Self(Arc::new(Table(shards)))
    }

    /// Returns all shards, of every thread.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Shard<T>> {
        self.0.0.iter().map(|shard| &**shard)
    }

    /// Returns the calling thread's shard.
    ///
    /// A task that moves to another thread gets that thread's shard with its next request. A request keeps the shard
    /// with which it began.
    pub(crate) fn local(&self) -> &Arc<Shard<T>> {
        let shards = &self.0.0;
        // The number of shards is a power of two, so the mask is a modulo.
        // A thread keeps its number, so it always gets the same shard.
        &shards[thread_number() & (shards.len() - 1)]
    }
}

impl<T> Clone for Sharded<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Sharded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharded").finish_non_exhaustive()
    }
}

impl<T> Deref for Shard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Shard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns the number of the calling thread. Threads are numbered in the order of their first call.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        // Relaxed: only uniqueness matters.
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

/// Returns the number of shards: a power of two, computed once, because `available_parallelism` reads files on Linux.
fn shards() -> usize {
    static SHARDS: OnceLock<usize> = OnceLock::new();
    *SHARDS.get_or_init(|| {
        let cores = available_parallelism().map_or(1, usize::from);
        // At least 16, because threads may outnumber cores, and may share a shard by their numbers.
        cores.next_power_of_two().clamp(MIN_SHARDS, MAX_SHARDS)
    })
}

/// Minimum number of shards.
const MIN_SHARDS: usize = 16;
/// Maximum number of shards. A shard costs about half a kilobyte.
const MAX_SHARDS: usize = 64;
