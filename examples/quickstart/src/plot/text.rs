//! The plot in 80 columns of text.

use super::{Plot, Steps};
use crate::terminal::Palette;

const COLUMNS: usize = 60;
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

impl Plot {
    pub fn text(&self, palette: &Palette) -> String {
        let waiting = self.bars(&self.waiting, self.workers);
        let rows = [
            (
                "in flight",
                self.workers,
                palette.sent,
                self.bars(&self.in_flight, self.workers),
            ),
            ("waiting", self.workers, palette.waiting, waiting),
            (
                "quota left",
                self.quota,
                palette.quota,
                self.bars(&self.remaining, self.quota),
            ),
            (
                "token",
                self.tokens.len() as u32,
                palette.token,
                self.tokens(),
            ),
        ];
        let (dim, reset) = (palette.dim, palette.reset);
        let mut text = String::new();
        for (name, top, colour, cells) in rows {
            text += &format!("{name:<11}{dim}{top:>4}{reset} {colour}{cells}{reset}\n");
        }
        format!("{text}{dim}{:16}{}{reset}\n", "", self.axis())
    }

    fn bars(&self, steps: &Steps, top: u32) -> String {
        self.columns()
            .map(|(from, to)| {
                let share = steps.mean(from, to) / f64::from(top.max(1));
                // A value above zero is always visible.
                let level = (share * 8.0)
                    .round()
                    .max(if share > 0.0 { 1.0 } else { 0.0 });
                LEVELS[(level as usize).min(8)]
            })
            .collect()
    }

    /// The last digit of the token's number, from its arrival on; `x` where it is revoked, a dot while there is none.
    fn tokens(&self) -> String {
        self.columns()
            .map(|(from, to)| {
                let last = self.tokens.iter().rposition(|token| token.fetched < to);
                match last.map(|number| (number, &self.tokens[number])) {
                    Some((_, token)) if token.revoked.is_some_and(|at| at < to && at >= from) => {
                        'x'
                    }
                    Some((_, token)) if token.revoked.is_some_and(|at| at < from) => '.',
                    Some((number, _)) => char::from(b'0' + ((number + 1) % 10) as u8),
                    None => '.',
                }
            })
            .collect()
    }

    /// A mark for each second, where there is space for it.
    fn axis(&self) -> String {
        let mut axis = String::new();
        for second in 0..=self.end as usize {
            let column = (second as f64 / self.column()) as usize;
            let label = format!("|{second} s");
            let free = axis.len() < column || axis.is_empty();
            if free && column + label.len() <= COLUMNS {
                axis = format!("{axis:<column$}{label}");
            }
        }
        axis
    }

    fn columns(&self) -> impl Iterator<Item = (f64, f64)> {
        let width = self.column();
        (0..COLUMNS).map(move |column| (column as f64 * width, (column + 1) as f64 * width))
    }

    /// Seconds per column.
    fn column(&self) -> f64 {
        self.end.max(0.001) / COLUMNS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::run, *};

    #[test]
    fn each_row_has_at_most_80_columns() {
        let text = run().text(&Palette::NONE);
        assert_eq!(text.lines().count(), 5);
        assert!(text.lines().all(|row| row.chars().count() <= 80), "{text}");
        assert!(text.lines().last().unwrap().contains("|0 s"), "{text}");
    }

    #[test]
    fn rows_show_the_values_at_their_times() {
        let text = run().text(&Palette::NONE);
        let row = |name| -> Vec<char> {
            let row = text.lines().find(|row: &&str| row.starts_with(name));
            row.unwrap().chars().skip(16).collect()
        };
        // 60 columns are 2 s.
        assert_eq!(row("waiting")[..6], ['█'; 6]);
        assert_eq!(row("in flight")[6..9], ['▄'; 3]);
        assert_eq!(row("in flight")[10..36], [' '; 26]);
        assert_eq!(row("token")[5..7], ['.', '1']);
        assert_eq!(row("token")[37..46].iter().collect::<String>(), "x.......2");
    }
}
