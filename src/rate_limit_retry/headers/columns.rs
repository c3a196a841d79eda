//! Several quotas in one value, by position.
//!
//! `Limit: 600,30000` with `Usage: 314,27536` describes two quotas:
//!
//! | position | limit | used |
//! |---|---|---|
//! | 0 | 600 | 314 |
//! | 1 | 30000 | 27536 |
//!
//! Names of the fields do not distinguish the quotas. A [`HeaderProfile`](super::HeaderProfile) can add their windows
//! by position.

use std::time::{Duration, SystemTime};

use super::{
    Field,
    structured::{Item, MAX_ITEMS, items},
    value::{ResetTime, is_unlimited, period, remaining, split_quoted},
};
use crate::retry_after::{MAX_WAIT, Number};

/// A line of a field. If values contain several quotas, the items with the same position belong together.
///
/// A response may repeat a field (RFC 9110 §5.3): the items of all its lines count, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// What the value describes.
    pub(super) field: Field,
    /// Unit of the value in nanoseconds, if known.
    pub(super) scale: Option<u64>,
    /// The value, or one item of it.
    pub(super) value: &'a [u8],
}

/// The values at one position.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    /// Number allowed per window.
    pub(super) limit: Option<u64>,
    /// Whether the limit was reported as unlimited.
    pub(super) unlimited: bool,
    /// Number that remains.
    pub(super) remaining: Option<u64>,
    /// Number that is used up.
    pub(super) used: Option<u64>,
    /// Time until the reset.
    pub(super) reset: Option<Duration>,
    /// Length of the window.
    pub(super) window: Option<Duration>,
}

/// Returns the rows, if at least two fields have the same number of items and that number is at least 2.
///
/// A field with one item applies to all rows. A field with any other number of items is ignored.
///
/// Two fields must agree on the number, because a comma alone proves nothing: it also separates policies, joins
/// repeated fields and occurs in dates.
pub(super) fn rows(lines: &[Line<'_>], reference: SystemTime) -> Option<Vec<Row>> {
    if lines.is_empty() {
        return None;
    }
    let counts = COLUMNS.map(|field| cells(lines, field, reference).count());
    let agreed = |count: &usize| {
        (2..=MAX_ITEMS).contains(count) && counts.iter().filter(|other| *other == count).count() > 1
    };
    // Of several numbers that two fields agree on, the largest describes the most quotas.
    let count = counts.iter().copied().filter(agreed).max()?;
    let mut rows = vec![Row::default(); count];
    for (field, found) in COLUMNS.into_iter().zip(counts) {
        if found == 1 {
            let line = cells(lines, field, reference).next();
            for row in &mut rows {
                line.iter().for_each(|cell| row.set(cell, reference));
            }
        } else if found == count {
            for (row, cell) in rows.iter_mut().zip(cells(lines, field, reference)) {
                row.set(&cell, reference);
            }
        }
    }
    Some(rows)
}

/// Returns the items of all lines of a field, without the policies that follow a limit (IETF drafts 01 to 03).
fn cells<'l>(
    lines: &'l [Line<'l>],
    field: Field,
    reference: SystemTime,
) -> impl Iterator<Item = Line<'l>> {
    let lines = lines.iter().filter(move |line| line.field == field);
    lines.flat_map(move |line| {
        let plain = !split_quoted(line.value, b',')
            .next()
            .is_some_and(|first| first.contains(&b';'));
        // Dates contain commas: such a value is a single item.
        let single = field == Field::Reset
            && ResetTime::parse_scaled(line.scale, line.value, reference).is_some();
        let whole = single.then_some(*line);
        let items = (!single).then(|| {
            split_quoted(line.value, b',')
                .filter(move |item| !(plain && item.contains(&b';')))
                .map(|value| Line { value, ..*line })
        });
        whole.into_iter().chain(items.into_iter().flatten())
    })
}

impl Row {
    /// Adds the value of one item to the row.
    fn set(&mut self, cell: &Line<'_>, reference: SystemTime) {
        let bare = split_quoted(cell.value, b';').next().unwrap_or_default();
        match cell.field {
            Field::Limit => {
                self.limit = integer_part(bare);
                self.unlimited = is_unlimited(bare);
                if cell.value.contains(&b';') {
                    let policy: Option<Item> = items(cell.value).pop();
                    self.window = policy.and_then(|policy| window_from_seconds(policy.window?));
                }
            }
            Field::Remaining => self.remaining = remaining(bare),
            Field::Used => self.used = integer_part(bare),
            Field::Reset => {
                let when = ResetTime::parse_scaled(cell.scale, bare, reference);
                self.reset = when.map(ResetTime::delay);
            }
            Field::Window => self.window = period(cell.scale, bare),
            _ => {}
        }
    }
}

/// Fields whose values may be lists.
pub(super) const COLUMNS: [Field; 5] = [
    Field::Limit,
    Field::Remaining,
    Field::Used,
    Field::Reset,
    Field::Window,
];

/// Parses a number, rounded down.
pub(super) fn integer_part(value: &[u8]) -> Option<u64> {
    Some(Number::parse(value)?.whole)
}

/// Converts the length of a window. Returns `None` for zero, which would not limit anything.
pub(super) fn window_from_seconds(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds).min(MAX_WAIT))
}
