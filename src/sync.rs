//! std's locks and atomics, or loom's in tests under `--cfg tower_m2m_loom`; a poisoned lock is recovered, never a panic.

use std::sync::PoisonError;
#[cfg(not(all(test, tower_m2m_loom)))]
pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

#[cfg(all(test, tower_m2m_loom))]
pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

/// What the locks guard is consistent after every statement, so a panic elsewhere does not spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `scenario` in every interleaving of its threads within the bound, and prints how many there were.
///
/// The bound is `LOOM_MAX_PREEMPTIONS`, or else 3: so many times a thread that could go on is interrupted.
#[cfg(all(test, tower_m2m_loom))]
pub(crate) fn explore(name: &str, scenario: impl Fn() + Send + Sync + 'static) {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    let mut builder = loom::model::Builder::new();
    let bound = *builder.preemption_bound.get_or_insert(3);
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    let seen = seen.load(Ordering::Relaxed);
    println!("{name}: {seen} interleavings, at most {bound} preemptions in each");
}
