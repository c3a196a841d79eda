//! `RateLimit` and `RateLimit-Policy` as structured fields (RFC 9651), for IETF drafts 07 to 10.
//!
//! | draft | field | example |
//! |---|---|---|
//! | up to 07 | `RateLimit-Policy` | `100;w=60` |
//! | 08 to 10 | `RateLimit-Policy` | `"burst";q=100;w=60;qu="requests"` |
//! | 08 to 10 | `RateLimit` | `"burst";r=0;t=12;pk=:cHk=:` |
//!
//! `RateLimit` of draft 07 is a dictionary, which [`collect`](super::collect) reads as pairs. Policies may also
//! follow a limit (drafts 01 to 03).
//!
//! The parser visits the items instead of building a list of all of them, so that a hostile value costs no memory
//! beyond [`MAX_ITEMS`] items. The drafts require that a malformed field is ignored; only forms that real servers send
//! are parsed leniently.

use std::convert::Infallible;

use sfv::{
    BareItemFromInput, KeyRef, Parser,
    visitor::{
        EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ListVisitor, ParameterVisitor,
    },
};

use super::value::{split_pair, split_quoted};
use crate::{retry_after::Number, steps::count_steps};

/// An item of a list: `"burst";q=100;w=60`, `"burst";r=0;t=12`, `100;w=60`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Item {
    /// Name of the policy (draft 08 and later).
    pub(super) name: Option<String>,
    /// Quota of the policy: `q`, or the item itself (up to draft 07).
    pub(super) quota: Option<u64>,
    /// Length of the window in seconds: `w`, or `window`.
    pub(super) window: Option<u64>,
    /// Remaining quota: `r`.
    pub(super) remaining: Option<u64>,
    /// Seconds until the reset: `t`.
    pub(super) reset: Option<u64>,
    /// Unit of the quota: `qu`.
    pub(super) unit: Option<String>,
    /// Partition key: `pk`.
    pub(super) partition_key: Option<Vec<u8>>,
    /// Whether a value has the wrong type or is negative. Such an item is skipped.
    malformed: bool,
}

/// Parses the items of one line.
///
/// An item with an invalid parameter is skipped. Inner lists are skipped, too. A line that is not a structured field
/// is parsed by [`parse_lenient`]. Returns at most [`MAX_ITEMS`] items.
///
/// Unknown parameters are ignored, so that servers can add their own. Decimals are rounded down: the drafts
/// specify integers.
pub(super) fn items(value: &[u8]) -> Vec<Item> {
    count_steps(value.len());
    let parsed = Parser::new(value).parse_list_with_visitor(Items::default());
    parsed.unwrap_or_else(|_| parse_lenient(value))
}

/// Parses items that are not structured fields, as some servers send them: with several names, of which the last one
/// applies (`"fixed window";"api";q=2500;w=300`).
fn parse_lenient(value: &[u8]) -> Vec<Item> {
    let items = split_quoted(value, b',').filter_map(|text| {
        let mut item = Item::default();
        for part in split_quoted(text, b';') {
            match split_pair(part, b'=') {
                // An invalid number skips the item: a policy must not count without one of its values.
                Some((b"q", number)) => item.quota = Some(Number::parse(number)?.whole),
                Some((b"w" | b"window", number)) => {
                    item.window = Some(Number::parse(number)?.whole)
                }
                Some((b"r", number)) => item.remaining = Some(Number::parse(number)?.whole),
                Some((b"t", number)) => item.reset = Some(Number::parse(number)?.whole),
                Some(_) => {}
                None => item.name = Some(unquoted(part)?),
            }
        }
        Some(item)
    });
    items.take(MAX_ITEMS).collect()
}

/// Removes the quotes from a name; `None` if there are none.
fn unquoted(name: &[u8]) -> Option<String> {
    let name = name.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(std::str::from_utf8(name).ok()?.to_owned())
}

/// Visitor of a list; collects the items.
#[derive(Default)]
struct Items(Vec<Item>);

impl<'de> ListVisitor<'de> for Items {
    type Out = Vec<Item>;
    type Error = Infallible;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(Entry(&mut self.0))
    }

    fn finish(self) -> Result<Self::Out, Infallible> {
        Ok(self.0)
    }
}

/// Visitor of one list member. Inner lists are ignored.
struct Entry<'a>(&'a mut Vec<Item>);

impl<'de> EntryVisitor<'de> for Entry<'_> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for Entry<'_> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        value: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        let mut item = Item::default();
        match value {
            BareItemFromInput::String(name) => item.name = Some(name.as_str().to_owned()),
            BareItemFromInput::Token(name) => item.name = Some(name.as_str().to_owned()),
            // Any other type is no number, so that the item is malformed.
            number => {
                item.quota = integer_part(&number);
                item.malformed = item.quota.is_none();
            }
        }
        Ok(Parameters {
            items: self.0,
            item,
        })
    }
}

/// Visitor of the parameters of one item.
struct Parameters<'a> {
    /// The items collected so far.
    items: &'a mut Vec<Item>,
    /// The item that the parameters belong to.
    item: Item,
}

impl<'de> ParameterVisitor<'de> for Parameters<'_> {
    type Out = ();
    type Error = Infallible;

    /// Stores a known parameter. Unknown parameters are ignored.
    fn parameter(
        &mut self,
        key: &'de KeyRef,
        value: BareItemFromInput<'de>,
    ) -> Result<(), Infallible> {
        count_steps(1);
        let item = &mut self.item;
        let number = match key.as_str() {
            "q" => &mut item.quota,
            "w" | "window" => &mut item.window,
            "r" => &mut item.remaining,
            "t" => &mut item.reset,
            "qu" => {
                item.unit = value.as_string().map(|unit| unit.as_str().to_owned());
                item.malformed |= item.unit.is_none();
                return Ok(());
            }
            "pk" => {
                item.partition_key = match value {
                    BareItemFromInput::ByteSequence(key) => Some(key),
                    BareItemFromInput::String(key) => Some(key.as_str().as_bytes().to_vec()),
                    _ => None,
                };
                item.malformed |= item.partition_key.is_none();
                return Ok(());
            }
            _ => return Ok(()),
        };
        *number = integer_part(&value);
        item.malformed |= number.is_none();
        Ok(())
    }

    /// Adds the item, unless it is malformed or the list is full.
    fn finish(self) -> Result<(), Infallible> {
        // Checked for each item, so that a long list cannot use more memory.
        if !self.item.malformed && self.items.len() < MAX_ITEMS {
            self.items.push(self.item);
        }
        Ok(())
    }
}

/// Returns a non-negative number, rounded down.
fn integer_part(value: &BareItemFromInput<'_>) -> Option<u64> {
    let whole = match value {
        BareItemFromInput::Integer(number) => i64::from(*number),
        BareItemFromInput::Decimal(number) => {
            i64::from(number.as_integer_scaled_1000()).div_euclid(1000)
        }
        _ => return None,
    };
    u64::try_from(whole).ok()
}

/// Maximum number of items per line. Servers send a handful of policies.
pub(super) const MAX_ITEMS: usize = 64;
