//! The tokens of one credential for other scopes than those of its source: one cell for each set.
//!
//! A cell is made when a request first asks for its set. The number of cells is bounded: the one that was not used for
//! longest is forgotten for a new one, and one that was not used for an hour when another is made. Calls in flight keep their
//! cell, so that forgetting it only costs a later request another token.
//!
//! Each cell has a token cache of its own: single flight, refresh, back-off and cooldown are separate.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::TokenScope;
use crate::sync::{Mutex, lock};

/// Cells by set.
///
/// The lock is held for a look-up and for the creation of a cell, which waits for nothing. Requests without a set never take
/// it.
pub(crate) struct ScopedTokens<T> {
    /// Makes the tokens of a set.
    make: Box<dyn Fn(&TokenScope) -> T + Send + Sync>,
    /// Maximum number of cells.
    max: usize,
    /// When the layer was built. Times of use count from here.
    began: Instant,
    /// The cells.
    cells: Mutex<HashMap<TokenScope, Cell<T>>>,
}

/// The tokens of one set.
struct Cell<T> {
    /// The tokens.
    tokens: Arc<T>,
    /// When the cell was last used, in milliseconds after the layer was built.
    used: AtomicU64,
}

impl<T> ScopedTokens<T> {
    /// Creates a table without cells.
    pub(crate) fn new(
        make: impl Fn(&TokenScope) -> T + Send + Sync + 'static,
        max: usize,
        now: Instant,
    ) -> Self {
        Self {
            make: Box::new(make),
            max: max.max(1),
            began: now,
            cells: Mutex::default(),
        }
    }

    /// Returns the tokens of `scope`. Makes the cell if there is none.
    pub(crate) fn get(&self, scope: &TokenScope, now: Instant) -> Arc<T> {
        let millis = now.saturating_duration_since(self.began).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        let mut cells = lock(&self.cells);
        if let Some(cell) = cells.get(scope) {
            cell.used.store(millis, Relaxed);
            return Arc::clone(&cell.tokens);
        }
        let forgotten = self.make_room(&mut cells, millis);
        let tokens = Arc::new((self.make)(scope));
        let cell = Cell {
            tokens: Arc::clone(&tokens),
            used: AtomicU64::new(millis),
        };
        cells.insert(scope.clone(), cell);
        drop(cells);
        // Dropped without the lock: this zeroizes tokens.
        drop(forgotten);
        tokens
    }

    /// Returns all cells.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        let cells = lock(&self.cells);
        cells
            .values()
            .map(|cell| Arc::clone(&cell.tokens))
            .collect()
    }

    /// Removes idle cells, and if there are still too many, the one that was not used for longest.
    fn make_room(&self, cells: &mut HashMap<TokenScope, Cell<T>>, now: u64) -> Vec<Cell<T>> {
        let limit = u64::try_from(MAX_IDLE.as_millis()).unwrap_or(u64::MAX);
        let mut forgotten = Vec::new();
        let mut by_use: Vec<_> = cells
            .iter()
            .map(|(scope, cell)| (cell.used.load(Relaxed), scope.clone()))
            .collect();
        by_use.sort_unstable();
        for (used, scope) in by_use {
            if now.saturating_sub(used) < limit && cells.len() < self.max {
                break;
            }
            forgotten.extend(cells.remove(&scope));
        }
        forgotten
    }
}

impl<T> std::fmt::Debug for ScopedTokens<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScopedTokens").finish_non_exhaustive()
    }
}

/// Time without use after which a cell is forgotten.
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
    }
}
