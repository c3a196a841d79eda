//! Whether the store works, so that each change is told once.

use super::{StoreError, StoreErrorKind};

/// What is wrong with the store, as far as the last calls showed.
#[derive(Debug, Default)]
pub(super) struct Health {
    unavailable: bool,
    unreadable: bool,
}

/// A change to be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    Failed,
    Recovered,
}

impl Health {
    /// A call has ended. Only one that `reads` shows that what is stored can be read.
    pub(super) fn learn(&mut self, error: Option<&StoreError>, reads: bool) -> Option<Change> {
        let was_ill = self.unavailable || self.unreadable;
        match error.map(StoreError::kind) {
            None => {
                self.unavailable = false;
                self.unreadable &= !reads;
                let is_ill = self.unreadable;
                (was_ill && !is_ill).then_some(Change::Recovered)
            }
            Some(kind) => {
                let flag = match kind {
                    StoreErrorKind::Unavailable => &mut self.unavailable,
                    StoreErrorKind::Unreadable => &mut self.unreadable,
                };
                (!std::mem::replace(flag, true)).then_some(Change::Failed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once() {
        let down = StoreError::unavailable("is down");
        let mut health = Health::default();

        assert_eq!(health.learn(None, true), None);
        assert_eq!(health.learn(Some(&down), false), Some(Change::Failed));
        assert_eq!(health.learn(Some(&down), true), None);
        assert_eq!(health.learn(None, false), Some(Change::Recovered));
        assert_eq!(health.learn(None, true), None);
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_told_until_one_can() {
        let garbage = StoreError::unreadable("holds garbage");
        let mut health = Health::default();

        assert_eq!(health.learn(Some(&garbage), true), Some(Change::Failed));
        assert_eq!(health.learn(None, false), None);
        assert_eq!(health.learn(Some(&garbage), true), None);
        assert_eq!(health.learn(None, true), Some(Change::Recovered));
    }
}
