//! One thing in several shards, so that requests on different threads count references, and keep what they need at
//! hand, on cache lines of their own.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

/// As many shards as threads can run at once. Cheap to clone.
pub(crate) struct Sharded<T>(Arc<Table<T>>);

/// Aligned, so that who clones a service, and writes to the count before it, takes no line from those who read here.
#[repr(align(128))]
struct Table<T>(Box<[Arc<Shard<T>>]>);

/// One of the shards, which nearly always one thread alone uses. Whoever holds it for the length of a request writes to
/// this shard's reference count and no other. Aligned so that neither count nor content shares a line with another's.
#[repr(align(128))]
pub(crate) struct Shard<T>(T);

impl<T> Sharded<T> {
    pub(crate) fn new(shard: impl Fn() -> T) -> Self {
        let shards = (0..shards()).map(|_| Arc::new(Shard(shard()))).collect();
        Self(Arc::new(Table(shards)))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Shard<T>> {
        self.0.0.iter().map(|shard| &**shard)
    }

    /// This thread's shard.
    pub(crate) fn here(&self) -> &Arc<Shard<T>> {
        let shards = &self.0.0;
        // The number of shards is a power of two.
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

/// Threads are numbered in the order in which they first ask.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

fn shards() -> usize {
    static SHARDS: OnceLock<usize> = OnceLock::new();
    *SHARDS.get_or_init(|| {
        let cores = available_parallelism().map_or(1, usize::from);
        cores.next_power_of_two().clamp(FEWEST, MOST)
    })
}

const FEWEST: usize = 16;
/// A shard costs about half a kilobyte.
const MOST: usize = 64;
