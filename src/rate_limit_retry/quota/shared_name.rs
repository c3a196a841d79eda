//! The name under which a fleet shares an announced quota.

use crate::rate_limit_retry::{headers::Unit, store::WindowId};

/// What identifies an announced quota in all processes. Quotas with the same name and different limits differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SharedName {
    /// What is counted.
    pub(super) unit: Unit,
    /// The server's name for the quota, if there is one, and its limit, if that is known.
    pub(super) named: Option<(String, Option<u64>)>,
}

impl SharedName {
    /// Reads the name of a window of the store; `None` if it is no announced quota.
    pub(super) fn of(id: &WindowId) -> Option<Self> {
        let (head, name) = match id.as_str().split_once(' ') {
            Some((head, name)) => (head, Some(name)),
            None => (id.as_str(), None),
        };
        let (unit, limit) = match head.split_once('/') {
            Some((unit, limit)) => (unit, limit.parse().ok()),
            None => (head, None),
        };
        let (unit, _) = UNITS.into_iter().find(|(_, word)| *word == unit)?;
        Some(Self {
            unit,
            named: name.map(|name| (name.to_owned(), limit)),
        })
    }

    /// Returns the name of the window in the store; `None` if it is too long.
    pub(super) fn id(&self) -> Option<WindowId> {
        let (_, unit) = UNITS.into_iter().find(|(unit, _)| *unit == self.unit)?;
        WindowId::new(match &self.named {
            None => unit.to_owned(),
            Some((name, None)) => format!("{unit} {name}"),
            Some((name, Some(limit))) => format!("{unit}/{limit} {name}"),
        })
    }
}

/// The units of quotas, and their words in the store. A limit on concurrency is no quota.
const UNITS: [(Unit, &str); 3] = [
    (Unit::Requests, "requests"),
    (Unit::ContentBytes, "bytes"),
    (Unit::Other, "units"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_as_it_was_written() {
        let named = |name: &str, limit| Some((name.to_owned(), limit));
        for (unit, named, id) in [
            (Unit::Requests, None, "requests"),
            (Unit::Requests, named("burst", None), "requests burst"),
            (
                Unit::Other,
                named("input tokens", Some(60)),
                "units/60 input tokens",
            ),
            (Unit::ContentBytes, named("a/b 7", Some(1)), "bytes/1 a/b 7"),
        ] {
            let name = SharedName { unit, named };

            let written = name.id().unwrap();

            assert_eq!(written.as_str(), id);
            assert_eq!(SharedName::of(&written), Some(name));
        }
    }

    #[test]
    fn other_windows_of_the_store_are_no_announced_quotas() {
        for id in ["start", "estimate", "later-version x", "/", " "] {
            assert_eq!(SharedName::of(&WindowId::new(id).unwrap()), None, "{id}");
        }
        let long = SharedName {
            unit: Unit::Other,
            named: Some(("n".repeat(60), None)),
        };
        assert_eq!(long.id(), None);
    }
}
