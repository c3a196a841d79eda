//! Health of a store. Reports each transition once.
//!
//! A store is checked by every call rather than by a timer. Without this module each failing call would emit an event;
//! with it, one event marks the beginning of an outage and one its end.

use super::{StoreError, StoreErrorKind};

/// Health of a store, as the most recent calls showed it.
///
/// Reads and writes are tracked separately, so that a successful read does not hide failing writes.
///
/// | last calls | state |
/// |---|---|
/// | read failed | degraded until any call succeeds |
/// | write failed | degraded until a write succeeds |
/// | entry unreadable | degraded until a read succeeds |
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Whether the last read failed. Cleared by any successful call.
    reading_fails: bool,
    /// Whether the last write failed. Only a successful write clears it: a full or read-only store still serves reads.
    writing_fails: bool,
    /// Whether an entry was unreadable. Only a successful read clears it.
    unreadable: bool,
}

/// Kind of access that a call makes to the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// The call only reads.
    Read,
    /// The call may write.
    Write,
}

/// Transition to report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HealthChange {
    /// The store has begun to fail.
    Failed,
    /// The store works again.
    Recovered,
}

impl Health {
    /// Records the result of a call. Returns the transition that it causes, if any.
    ///
    /// The transition depends on the combined state: a store that fails in two ways has recovered only when both have
    /// ended.
    ///
    /// Must be called under a lock, once for each call, in any order: concurrent calls that end differently may report
    /// a recovery and another failure.
    pub(crate) fn record(
        &mut self,
        access: Access,
        error: Option<&StoreError>,
    ) -> Option<HealthChange> {
        let was_ill = self.is_degraded();
        match (error.map(StoreError::kind), access) {
            (None, Access::Read) => {
                // A successful read proves that an entry is readable, but not that the store accepts writes.
                self.reading_fails = false;
                self.unreadable = false;
            }
            (None, Access::Write) => {
                // A store that accepts writes can be read as well. The entry may still be unreadable.
                self.reading_fails = false;
                self.writing_fails = false;
            }
            (Some(StoreErrorKind::Unreadable), _) => self.unreadable = true,
            (Some(_), Access::Read) => self.reading_fails = true,
            (Some(_), Access::Write) => self.writing_fails = true,
        }
        match (was_ill, self.is_degraded()) {
            (false, true) => Some(HealthChange::Failed),
            (true, false) => Some(HealthChange::Recovered),
            _ => None,
        }
    }

    /// Returns whether reads, writes or an entry currently fail.
    ///
    /// An unreadable entry counts as well, because someone else writes to the store or the keys differ.
    pub(crate) fn is_degraded(&self) -> bool {
        self.reading_fails || self.writing_fails || self.unreadable
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Access::{Read, Write},
        *,
    };

    #[test]
    fn each_health_change_is_reported_once() {
        let down = StoreError::unavailable("is down");
        let mut health = Health::default();

        assert_eq!(health.record(Read, None), None);
        assert_eq!(health.record(Read, Some(&down)), Some(HealthChange::Failed));
        assert_eq!(health.record(Read, Some(&down)), None);
        assert_eq!(health.record(Read, None), Some(HealthChange::Recovered));
        assert_eq!(health.record(Write, None), None);
    }

    #[test]
    fn a_read_only_store_has_not_recovered() {
        let full = StoreError::unavailable("is full");
        let mut health = Health::default();

        assert_eq!(
            health.record(Write, Some(&full)),
            Some(HealthChange::Failed)
        );
        assert_eq!(health.record(Read, None), None);
        assert_eq!(health.record(Write, Some(&full)), None);
        assert_eq!(health.record(Write, None), Some(HealthChange::Recovered));
    }

    #[test]
    fn an_unreadable_entry_degrades_health_until_one_is_readable() {
        let garbage = StoreError::unreadable("holds garbage");
        let mut health = Health::default();

        assert_eq!(
            health.record(Read, Some(&garbage)),
            Some(HealthChange::Failed)
        );
        assert_eq!(health.record(Write, None), None);
        assert_eq!(health.record(Read, Some(&garbage)), None);
        assert_eq!(health.record(Read, None), Some(HealthChange::Recovered));
    }
}
