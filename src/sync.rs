//! std's locks and atomics, or loom's in tests under `--cfg tower_m2m_loom`. Poisoned locks are recovered.
//!
//! No lock is held across an `await`: guards are not `Send`, and the futures of this crate are.
//!
//! loom explores the interleavings of the modules that use these types, so only the models in `models` modules run
//! under it. It does not model time: code that waits for tokio's timers is tested with a paused clock instead.

use std::sync::PoisonError;
#[cfg(not(all(test, tower_m2m_loom)))]
pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

#[cfg(all(test, tower_m2m_loom))]
pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

/// Locks `mutex`, and recovers a poisoned lock: what the locks of this crate guard is consistent after every statement, so
/// a panic elsewhere does not corrupt it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for reading, and recovers a poisoned lock as [`lock`] does.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing, and recovers a poisoned lock as [`lock`] does.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Orders sequentially consistent operations before it with those after it, for loom, which treats them as acquire and
/// release only. In other builds, the operations themselves are in one order, and this does nothing.
#[inline]
pub(crate) fn sequential_fence() {
    #[cfg(all(test, tower_m2m_loom))]
    atomic::fence(atomic::Ordering::SeqCst);
}

/// Runs `scenario` in every interleaving of its threads within the bound, and prints their number.
///
/// The bound is `LOOM_MAX_PREEMPTIONS`, or 3 by default: the maximum number of preemptions in one interleaving.
#[cfg(all(test, tower_m2m_loom))]
pub(crate) fn explore(name: &str, scenario: impl Fn() + Send + Sync + 'static) {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    let mut builder = loom::model::Builder::new();
    let bound = *builder.preemption_bound.get_or_insert(3);
    let value = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&value);
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    let value = value.load(Ordering::Relaxed);
    println!("{name}: {value} interleavings, at most {bound} preemptions in each");
}
