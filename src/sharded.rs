//! One thing in several places, so that requests on different threads count references, and keep what they need at
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

/// As many places as threads can run at once. Cheap to clone.
pub(crate) struct Sharded<T>(Arc<Table<T>>);

/// Aligned, so that who clones a service, and writes to the count before it, takes no line from those who read here.
#[repr(align(128))]
struct Table<T>(Box<[Arc<Place<T>>]>);

/// One of the places, which nearly always one thread alone uses. Whoever holds it for the length of a request writes to
/// this place's reference count and no other. Aligned so that neither count nor content shares a line with another's.
#[repr(align(128))]
pub(crate) struct Place<T>(T);

impl<T> Sharded<T> {
    pub(crate) fn new(place: impl Fn() -> T) -> Self {
        let places = (0..places()).map(|_| Arc::new(Place(place()))).collect();
        Self(Arc::new(Table(places)))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Place<T>> {
        self.0.0.iter().map(|place| &**place)
    }

    /// This thread's place.
    pub(crate) fn here(&self) -> &Arc<Place<T>> {
        let places = &self.0.0;
        // The number of places is a power of two.
        &places[thread_number() & (places.len() - 1)]
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

impl<T> Deref for Place<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Place<T> {
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

fn places() -> usize {
    static PLACES: OnceLock<usize> = OnceLock::new();
    *PLACES.get_or_init(|| {
        let cores = available_parallelism().map_or(1, usize::from);
        cores.next_power_of_two().clamp(FEWEST, MOST)
    })
}

const FEWEST: usize = 16;
/// A place costs about half a kilobyte.
const MOST: usize = 64;
