//! The tokens of one credential for other scopes than those of its source: one entry for each set.
//!
//! An entry is created by the first request with its set. The number of entries is bounded: a new one evicts the least
//! recently used one, and all that were not used for an hour. Calls in flight keep the tokens of their entry, so that
//! an eviction only costs a later request another token.
//!
//! Each entry has a token cache of its own: single flight, refresh, back-off and cooldown are separate.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::TokenScope;
use crate::sync::{Mutex, lock};

/// Entries by set.
///
/// The lock is held for a look-up and for the creation of an entry, which waits for nothing. Requests without a set
/// never take it.
pub(crate) struct ScopedTokens<T> {
    /// Makes the tokens of a set.
    make: Box<dyn Fn(&TokenScope) -> T + Send + Sync>,
    /// Maximum number of entries.
    max: usize,
    /// When the layer was built. Times of use count from here.
    began: Instant,
    /// The entries.
    entries: Mutex<HashMap<TokenScope, Entry<T>>>,
}

/// The tokens of one set.
struct Entry<T> {
    /// The tokens.
    tokens: Arc<T>,
    /// When the entry was last used, in milliseconds after the layer was built.
    used: AtomicU64,
}

impl<T> ScopedTokens<T> {
    /// Creates a table without entries.
    pub(crate) fn new(
        make: impl Fn(&TokenScope) -> T + Send + Sync + 'static,
        max: usize,
        now: Instant,
    ) -> Self {
        Self {
            make: Box::new(make),
            max: max.max(1),
            began: now,
            entries: Mutex::default(),
        }
    }

    /// Returns the tokens of `scope`. Makes the entry if there is none.
    pub(crate) fn get(&self, scope: &TokenScope, now: Instant) -> Arc<T> {
        let millis = now.saturating_duration_since(self.began).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        let mut entries = lock(&self.entries);
        if let Some(entry) = entries.get(scope) {
            entry.used.store(millis, Relaxed);
            return Arc::clone(&entry.tokens);
        }
        let evicted = self.evict(&mut entries, millis);
        let tokens = Arc::new((self.make)(scope));
        let entry = Entry {
            tokens: Arc::clone(&tokens),
            used: AtomicU64::new(millis),
        };
        entries.insert(scope.clone(), entry);
        drop(entries);
        // Dropped without the lock: this zeroizes tokens.
        drop(evicted);
        tokens
    }

    /// Returns all entries.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        let entries = lock(&self.entries);
        entries
            .values()
            .map(|entry| Arc::clone(&entry.tokens))
            .collect()
    }

    /// Removes idle entries, and if there are still too many, the least recently used one.
    fn evict(&self, entries: &mut HashMap<TokenScope, Entry<T>>, now: u64) -> Vec<Entry<T>> {
        let limit = u64::try_from(MAX_IDLE.as_millis()).unwrap_or(u64::MAX);
        let mut evicted = Vec::new();
        let mut by_use: Vec<_> = entries
            .iter()
            .map(|(scope, entry)| (entry.used.load(Relaxed), scope.clone()))
            .collect();
        by_use.sort_unstable();
        for (used, scope) in by_use {
            if now.saturating_sub(used) < limit && entries.len() < self.max {
                break;
            }
            evicted.extend(entries.remove(&scope));
        }
        evicted
    }
}

/// Omits the tokens.
impl<T> std::fmt::Debug for ScopedTokens<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScopedTokens").finish_non_exhaustive()
    }
}

/// Time without use after which a entry is evicted.
const MAX_IDLE: Duration = Duration::from_secs(3600);

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use super::*;
    use crate::{Clock, SystemClock};

    const MINUTE: Duration = Duration::from_secs(60);

    fn table(max: usize) -> (ScopedTokens<String>, Instant) {
        let now = SystemClock.now();
        (ScopedTokens::new(TokenScope::label, max, now), now)
    }

    fn labels(table: &ScopedTokens<String>) -> Vec<String> {
        let mut labels: Vec<_> = table.all().iter().map(|label| label.to_string()).collect();
        labels.sort();
        labels
    }

    #[test]
    fn the_cell_that_was_not_used_for_longest_is_forgotten() {
        let (table, now) = table(2);
        let [a, b, c] = ["a", "b", "c"].map(|scope| TokenScope::new().scope(scope));
        let first = table.get(&a, now);
        table.get(&b, now + MINUTE);
        assert!(Arc::ptr_eq(&first, &table.get(&a, now + 2 * MINUTE)));

        table.get(&c, now + 3 * MINUTE);

        assert_eq!(labels(&table), ["a", "c"]);
        assert!(Arc::ptr_eq(&first, &table.get(&a, now + 4 * MINUTE)));
    }

    #[test]
    fn idle_cells_are_forgotten_with_the_next_one() {
        let (table, now) = table(64);
        for (minute, scope) in [(0, "a"), (1, "b"), (2, "c")] {
            table.get(&TokenScope::new().scope(scope), now + minute * MINUTE);
        }

        table.get(&TokenScope::new().scope("d"), now + 61 * MINUTE);

        assert_eq!(labels(&table), ["c", "d"]);
    }

    #[test]
    fn there_is_at_least_one_cell() {
        let (table, now) = table(0);
        for scope in ["a", "b"] {
            table.get(&TokenScope::new().scope(scope), now);
        }

        assert_eq!(labels(&table), ["b"]);
        assert_eq!(format!("{table:?}"), "ScopedTokens { .. }");
    }
}
