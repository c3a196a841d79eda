//! Several quotas in one value, by position: `Limit: 600,30000` with `Usage: 314,27536`.

use std::time::{Duration, SystemTime};

use super::{
    Field,
    structured::{Item, MOST_ITEMS, items},
    value::{When, is_unlimited, period, remaining, split},
};
use crate::retry_after::{LONGEST, Number};

/// A line of one field: where several quotas are in one value, the items with the same number belong together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) field: Field,
    pub(super) scale: Option<u64>,
    pub(super) value: &'a [u8],
}

/// What the items at one position say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    pub(super) limit: Option<u64>,
    pub(super) unlimited: bool,
    pub(super) remaining: Option<u64>,
    pub(super) used: Option<u64>,
    pub(super) reset: Option<Duration>,
    pub(super) window: Option<Duration>,
}

/// The rows, if at least two fields have the same number of items, more than one. A field with one item says the same
/// of all rows; others say nothing.
pub(super) fn rows(lines: &[Line<'_>], reference: SystemTime) -> Option<Vec<Row>> {
    if lines.is_empty() {
        return None;
    }
    let counts = COLUMNS.map(|field| cells(lines, field, reference).count());
    let agreed = |count: &usize| {
        (2..=MOST_ITEMS).contains(count)
            && counts.iter().filter(|other| *other == count).count() > 1
    };
    let count = counts.iter().copied().filter(agreed).max()?;
    let mut rows = vec![Row::default(); count];
    for (field, found) in COLUMNS.into_iter().zip(counts) {
        if found == 1 {
            let line = cells(lines, field, reference).next();
            for row in &mut rows {
                line.iter().for_each(|cell| row.put(cell, reference));
            }
        } else if found == count {
            for (row, cell) in rows.iter_mut().zip(cells(lines, field, reference)) {
                row.put(&cell, reference);
            }
        }
    }
    Some(rows)
}

/// The items of all lines of a field. Policies behind a limit (IETF drafts 01 to 03) are none.
fn cells<'l>(
    lines: &'l [Line<'l>],
    field: Field,
    reference: SystemTime,
) -> impl Iterator<Item = Line<'l>> {
    let lines = lines.iter().filter(move |line| line.field == field);
    lines.flat_map(move |line| {
        let plain = !split(line.value, b',')
            .next()
            .is_some_and(|first| first.contains(&b';'));
        // Dates have commas of their own.
        let single =
            field == Field::Reset && When::parse_in(line.scale, line.value, reference).is_some();
        let whole = single.then_some(*line);
        let items = (!single).then(|| {
            split(line.value, b',')
                .filter(move |item| !(plain && item.contains(&b';')))
                .map(|value| Line { value, ..*line })
        });
        whole.into_iter().chain(items.into_iter().flatten())
    })
}

impl Row {
    fn put(&mut self, cell: &Line<'_>, reference: SystemTime) {
        let bare = split(cell.value, b';').next().unwrap_or_default();
        match cell.field {
            Field::Limit => {
                self.limit = whole(bare);
                self.unlimited = is_unlimited(bare);
                if cell.value.contains(&b';') {
                    let policy: Option<Item> = items(cell.value).pop();
                    self.window = policy.and_then(|policy| seconds(policy.window?));
                }
            }
            Field::Remaining => self.remaining = remaining(bare),
            Field::Used => self.used = whole(bare),
            Field::Reset => {
                let when = When::parse_in(cell.scale, bare, reference);
                self.reset = when.map(When::wait);
            }
            Field::Window => self.window = period(cell.scale, bare),
            _ => {}
        }
    }
}

/// The fields whose values may be lists.
pub(super) const COLUMNS: [Field; 5] = [
    Field::Limit,
    Field::Remaining,
    Field::Used,
    Field::Reset,
    Field::Window,
];

pub(super) fn whole(value: &[u8]) -> Option<u64> {
    Some(Number::parse(value)?.whole)
}

/// A window of zero would be no window.
pub(super) fn seconds(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds).min(LONGEST))
}
