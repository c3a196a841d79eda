//! The members of a JSON response that are read, and the cost that they add up to.

use std::borrow::Cow;

use super::super::{
    Cost,
    headers::{Limit, Unit},
};

/// The members to read.
#[derive(Clone, Debug)]
pub(super) struct Members {
    /// The members. The index of a member is its bit in a [`Set`].
    members: Vec<Member>,
    /// The units of the members that the user has added. Their slots follow the [`KNOWN_SLOTS`] in this order.
    units: Vec<Cow<'static, str>>,
}

/// A set of members: the bit `1 << n` stands for the member at position `n`.
pub(super) type Set = u64;

/// One member.
#[derive(Clone, Debug)]
struct Member {
    /// The keys from the root to the member.
    path: Vec<Token>,
    /// Index of its value in [`Values`].
    slot: usize,
    /// Whether a later value replaces this one. A stream that ends before that is incomplete.
    provisional: bool,
}

/// A key of a path. In an array, it is an index.
#[derive(Clone, Debug)]
struct Token {
    /// The name of the member.
    name: String,
    /// The same as an index, if it is one.
    index: Option<u64>,
}

/// The values that were found, by slot.
#[derive(Debug)]
pub(super) struct Values {
    /// The last value of each slot.
    values: Vec<Option<f64>>,
    /// Whether a value that is not provisional was found.
    is_final: bool,
}

impl Members {
    /// Returns the members of the field sets that are known.
    pub(super) fn known() -> Self {
        let mut members = Self {
            members: Vec::new(),
            units: Vec::new(),
        };
        // OpenAI and those compatible with it; Anthropic; OpenAI's `response.completed`.
        for (parent, provisional) in [
            ("/usage", false),
            // The first event of a stream, before anything is generated.
            ("/message/usage", true),
            ("/response/usage", false),
        ] {
            for (name, slot) in [
                ("prompt_tokens", INPUT),
                ("input_tokens", INPUT),
                ("cache_creation_input_tokens", CACHE_WRITES),
                ("completion_tokens", OUTPUT),
                ("output_tokens", OUTPUT),
                ("total_tokens", TOTAL),
            ] {
                members.insert(&format!("{parent}/{name}"), slot, provisional);
            }
        }
        // Shopify's GraphQL API.
        for (name, slot) in [
            ("actualQueryCost", POINTS),
            ("throttleStatus/maximumAvailable", POINTS_LIMIT),
            ("throttleStatus/currentlyAvailable", POINTS_REMAINING),
            ("throttleStatus/restoreRate", POINTS_REFILL),
        ] {
            members.insert(&format!("/extensions/cost/{name}"), slot, false);
        }
        members
    }

    /// Adds a member of the user.
    pub(super) fn add(&mut self, pointer: &str, unit: Cow<'static, str>) {
        if self.units.len() < MAX_OWN_MEMBERS {
            let known = self.units.iter().position(|known| *known == unit);
            let slot = known.unwrap_or(self.units.len());
            if known.is_none() {
                self.units.push(unit);
            }
            self.insert(pointer, KNOWN_SLOTS + slot, false);
        }
    }

    /// Adds a member and the slot of its value.
    fn insert(&mut self, pointer: &str, slot: usize, provisional: bool) {
        let keys = pointer.split('/').skip(1);
        let path: Vec<_> = keys.map(Token::new).collect();
        if path.len() <= MAX_DEPTH && self.members.len() < Set::BITS as usize {
            self.members.push(Member {
                path,
                slot,
                provisional,
            });
        }
    }

    /// Returns all members.
    pub(super) fn all(&self) -> Set {
        self.filter(Set::MAX, |_| true)
    }

    /// Returns those of `set` whose key at this depth is `key`.
    pub(super) fn with_key(&self, set: Set, depth: usize, key: &[u8]) -> Set {
        self.filter(set, |member| {
            let token = member.path.get(depth);
            token.is_some_and(|token| token.name.as_bytes() == key)
        })
    }

    /// Returns those of `set` whose key at this depth is this index of an array.
    pub(super) fn with_index(&self, set: Set, depth: usize, index: u64) -> Set {
        self.filter(set, |member| {
            let token = member.path.get(depth);
            token.is_some_and(|token| token.index == Some(index))
        })
    }

    /// Returns those of `set` whose path ends at this depth.
    pub(super) fn ending_at(&self, set: Set, depth: usize) -> Set {
        self.filter(set, |member| member.path.len() == depth)
    }

    /// Returns those of `set` that match.
    fn filter(&self, set: Set, matches: impl Fn(&Member) -> bool) -> Set {
        // Most sets are empty, because most parts of a document contain no member.
        if set == 0 {
            return 0;
        }
        let members = self.members.iter().enumerate();
        let bits = members.map(|(bit, member)| (1 << bit, member));
        bits.filter(|(bit, member)| set & bit != 0 && matches(member))
            .fold(0, |found, (bit, _)| found | bit)
    }
}

impl Token {
    /// Reads a key of a JSON pointer (RFC 6901 §4).
    fn new(escaped: &str) -> Self {
        let name = escaped.replace("~1", "/").replace("~0", "~");
        let index = name.parse().ok();
        Self { name, index }
    }
}

impl Values {
    /// Creates values for these members, none of which was found yet.
    pub(super) fn new(members: &Members) -> Self {
        Self {
            values: vec![None; KNOWN_SLOTS + members.units.len()],
            is_final: false,
        }
    }

    /// Records the value of each member of `set`. A later value replaces an earlier one.
    pub(super) fn record(&mut self, members: &Members, set: Set, value: f64) {
        for (bit, member) in members.members.iter().enumerate() {
            if set & (1 << bit) != 0
                && let Some(slot) = self.values.get_mut(member.slot)
            {
                *slot = Some(value);
                self.is_final |= !member.provisional;
            }
        }
    }

    /// Returns whether the final values were found.
    pub(super) fn are_final(&self) -> bool {
        self.is_final
    }

    /// Returns the quota that the values announce; `None` if they announce none.
    pub(super) fn limit(&self) -> Option<Limit> {
        let remaining = self.value(POINTS_REMAINING)?;
        Some(Limit {
            name: Some("points".to_owned()),
            unit: Unit::Other,
            limit: self.value(POINTS_LIMIT).map(|limit| limit as u64),
            remaining: Some(remaining as u64),
            refill: self.value(POINTS_REFILL),
            ..Limit::default()
        })
    }

    /// Returns the last value of a slot.
    fn value(&self, slot: usize) -> Option<f64> {
        self.values.get(slot).copied().flatten()
    }

    /// Returns the cost that the values add up to. `None` if none was found.
    pub(super) fn cost(&self, members: &Members) -> Option<Cost> {
        // Rounded up. The conversion is exact otherwise, because values are at most 2⁵³.
        let value = |slot: usize| self.value(slot).map(|value| value.ceil() as u64);
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
        };
        let input = sum(value(INPUT), value(CACHE_WRITES));
        let output = value(OUTPUT);
        let known = [
            ("tokens", value(TOTAL).or_else(|| sum(input, output))),
            ("input-tokens", input),
            ("output-tokens", output),
            // Shopify reports no cost for a throttled query, but still what remains.
            (
                "points",
                value(POINTS).or(value(POINTS_REMAINING).map(|_| 0)),
            ),
        ];
        let known = known.map(|(unit, value)| (Cow::Borrowed(unit), value));
        let own = members.units.iter().enumerate();
        let own = own.map(|(slot, unit)| (unit.clone(), value(KNOWN_SLOTS + slot)));
        // The user's units last: they replace known ones of the same name.
        let mut cost = None;
        for (unit, value) in known.into_iter().chain(own) {
            if let Some(value) = value {
                cost = Some(cost.unwrap_or_else(Cost::new).with(unit, value));
            }
        }
        cost
    }
}

/// Slot of the tokens of the input.
const INPUT: usize = 0;
/// Slot of the input tokens that were written to a cache, which Anthropic reports separately.
const CACHE_WRITES: usize = 1;
/// Slot of the tokens of the output.
const OUTPUT: usize = 2;
/// Slot of all tokens.
const TOTAL: usize = 3;
/// Slot of the points of a GraphQL query.
const POINTS: usize = 4;
/// Slot of the maximum number of available points.
const POINTS_LIMIT: usize = 5;
/// Slot of the points that are available.
const POINTS_REMAINING: usize = 6;
/// Slot of the points that are refilled per second.
const POINTS_REFILL: usize = 7;
/// Number of the slots above.
const KNOWN_SLOTS: usize = 8;
/// Maximum number of units that the user can add. With the known members, their members fit into a [`Set`].
const MAX_OWN_MEMBERS: usize = 32;
/// Maximum number of keys of a path. Bounds the memory of the scanner.
pub(super) const MAX_DEPTH: usize = 16;
