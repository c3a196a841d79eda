//! Scopes from challenges of APIs (RFC 6750 §3.1): which are requested in addition, and which were rejected. [pure]
//!
//! | state of a scope | effect |
//! |---|---|
//! | unknown | requested with the next token, which the challenge causes |
//! | learned | requested with each token |
//! | rejected by the authorization server | not requested again |
//!
//! A scope is learned only from a 403 or 401 of an allowed origin to a request with this layer's token. Number and
//! length of the scopes are bounded, so that an API cannot enlarge token requests without limit.

use std::collections::BTreeSet;

use super::TokenScope;
use crate::sync::{Mutex, lock};

/// Scopes that were learned from challenges.
///
/// Written by a challenge with `insufficient_scope` and by a fetch whose scopes are rejected. Read by each fetch. The
/// lock is held for assignments only.
#[derive(Debug, Default)]
pub(crate) struct LearnedScopes(Mutex<State>);

/// State of the learned scopes.
#[derive(Debug, Default)]
struct State {
    /// Scopes that are requested.
    learned: BTreeSet<Box<str>>,
    /// Scopes that the authorization server has rejected.
    refused: BTreeSet<Box<str>>,
}

impl LearnedScopes {
    /// Learns the scopes in `text`, separated by spaces. Returns whether a new token may have scopes that one with the
    /// scope `granted` lacks.
    pub(crate) fn learn(&self, text: &str, granted: Option<&str>) -> bool {
        let granted: BTreeSet<_> = granted
            .unwrap_or_default()
            .split_ascii_whitespace()
            .collect();
        let mut state = lock(&self.0);
        let mut helps = false;
        for scope in text.split_ascii_whitespace().take(MAX_SCOPES) {
            let is_valid = scope.len() <= MAX_SCOPE_BYTES && scope.bytes().all(is_scope_byte);
            if !is_valid || granted.contains(scope) || state.refused.contains(scope) {
                continue;
            }
            if state.learned.contains(scope) {
                // The token may be older than the scope.
                helps = true;
            } else if state.learned.len() < MAX_SCOPES {
                state.learned.insert(scope.into());
                helps = true;
            }
        }
        helps
    }

    /// Returns `scope` with the learned scopes added.
    pub(crate) fn widen(&self, scope: TokenScope) -> TokenScope {
        let state = lock(&self.0);
        let learned = state.learned.iter();
        learned.fold(scope, |scope, learned| scope.add_scope(learned))
    }

    /// Removes the learned scopes, which the authorization server has rejected. Returns whether there were any.
    pub(crate) fn refuse(&self) -> bool {
        let mut state = lock(&self.0);
        let refused = std::mem::take(&mut state.learned);
        let any = !refused.is_empty();
        if state.refused.len() + refused.len() <= 4 * MAX_SCOPES {
            state.refused.extend(refused);
        }
        any
    }
}

/// Returns whether a scope may contain `byte` (RFC 6749 §3.3).
fn is_scope_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E)
}

/// Maximum number of learned scopes.
const MAX_SCOPES: usize = 32;
/// Maximum length of a learned scope, in bytes.
const MAX_SCOPE_BYTES: usize = 200;

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use super::*;

    fn scopes(learned: &LearnedScopes) -> Vec<String> {
        let scope = learned.widen(TokenScope::new());
        scope.added_scopes().map(str::to_owned).collect()
    }

    #[test]
    fn scopes_are_learned_unless_they_are_granted_or_refused() {
        let learned = LearnedScopes::default();

        assert!(!learned.learn("", None));
        assert!(!learned.learn("a", Some("b a")));
        assert!(learned.learn("a b", Some("a")));
        // A token that was issued before.
        assert!(learned.learn("b", Some("a")));
        assert!(!learned.learn("b", Some("a b")));
        assert_eq!(scopes(&learned), ["b"]);

        assert!(learned.refuse());
        assert!(!learned.refuse());
        assert!(!learned.learn("b", None));
        assert!(scopes(&learned).is_empty());
    }

    #[test]
    fn four_rounds_of_rejected_scopes_are_remembered() {
        let learned = LearnedScopes::default();
        let round = |round: usize| {
            let scopes = (0..MAX_SCOPES).map(|number| format!("{round}-{number}"));
            scopes.collect::<Vec<_>>().join(" ")
        };
        for number in 0..5 {
            assert!(learned.learn(&round(number), None));
            assert!(learned.refuse());
        }

        for number in 0..4 {
            assert!(!learned.learn(&round(number), None), "round {number}");
        }
        // There is no room for these.
        assert!(learned.learn(&round(4), None));
    }

    #[test]
    fn what_an_api_can_add_is_bounded() {
        let learned = LearnedScopes::default();
        for wrong in ["a\"b", "a\\b", "ä", &"x".repeat(201)] {
            assert!(!learned.learn(wrong, None), "{wrong}");
        }
        for number in 0..100 {
            learned.learn(&format!("s{number}"), None);
        }
        let many: Vec<_> = (0..100).map(|number| format!("t{number}")).collect();
        learned.learn(&many.join(" "), None);

        assert_eq!(scopes(&learned).len(), MAX_SCOPES);
        for _ in 0..20 {
            learned.refuse();
            for number in 0..100 {
                learned.learn(
                    &format!("{number}-{:?}", lock(&learned.0).refused.len()),
                    None,
                );
            }
        }
        assert!(lock(&learned.0).refused.len() <= 4 * MAX_SCOPES);
    }
}
