//! Whether the store works, so that each change is told once.

use super::{StoreError, StoreErrorKind};

/// What is wrong with the store, as far as the last calls showed.
#[derive(Debug, Default)]
pub(crate) struct Health {
    reading_fails: bool,
    /// A full or read-only store can be read all the same.
    writing_fails: bool,
    unreadable: bool,
}

/// What a call does to the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A change to be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    Failed,
    Recovered,
}

impl Health {
    /// A call has ended, with `error` or well.
    pub(crate) fn learn(&mut self, access: Access, error: Option<&StoreError>) -> Option<Change> {
        let was_ill = self.is_ill();
        match (error.map(StoreError::kind), access) {
            (None, Access::Read) => {
                self.reading_fails = false;
                self.unreadable = false;
            }
            (None, Access::Write) => {
                self.reading_fails = false;
                self.writing_fails = false;
            }
            (Some(StoreErrorKind::Unreadable), _) => self.unreadable = true,
            (Some(_), Access::Read) => self.reading_fails = true,
            (Some(_), Access::Write) => self.writing_fails = true,
        }
        match (was_ill, self.is_ill()) {
            (false, true) => Some(Change::Failed),
            (true, false) => Some(Change::Recovered),
            _ => None,
        }
    }

    fn is_ill(&self) -> bool {
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
    fn each_change_is_told_once() {
        let down = StoreError::unavailable("is down");
        let mut health = Health::default();

        assert_eq!(health.learn(Read, None), None);
        assert_eq!(health.learn(Read, Some(&down)), Some(Change::Failed));
        assert_eq!(health.learn(Read, Some(&down)), None);
        assert_eq!(health.learn(Read, None), Some(Change::Recovered));
        assert_eq!(health.learn(Write, None), None);
    }

    #[test]
    fn a_store_that_can_only_be_read_has_not_recovered() {
        let full = StoreError::unavailable("is full");
        let mut health = Health::default();

        assert_eq!(health.learn(Write, Some(&full)), Some(Change::Failed));
        assert_eq!(health.learn(Read, None), None);
        assert_eq!(health.learn(Write, Some(&full)), None);
        assert_eq!(health.learn(Write, None), Some(Change::Recovered));
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_told_until_one_can() {
        let garbage = StoreError::unreadable("holds garbage");
        let mut health = Health::default();

        assert_eq!(health.learn(Read, Some(&garbage)), Some(Change::Failed));
        assert_eq!(health.learn(Write, None), None);
        assert_eq!(health.learn(Read, Some(&garbage)), None);
        assert_eq!(health.learn(Read, None), Some(Change::Recovered));
    }
}
