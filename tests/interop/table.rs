//! What came out, by case and server.

use std::{any::Any, fmt};

use tokio::task::JoinHandle;

/// How a case can end well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Passed,
    Refused,
    NotOffered,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Refused => "refused as expected",
            Self::NotOffered => "not offered",
        })
    }
}

/// Cases that run at the same time. One that panics fails alone.
pub(crate) struct Table {
    title: &'static str,
    columns: &'static [&'static str],
    cases: Vec<(String, Case)>,
}

/// The content of one cell, or of a whole row.
enum Case {
    Cell(&'static str, JoinHandle<String>),
    Row(JoinHandle<Vec<String>>),
}

impl Table {
    pub(crate) fn new(title: &'static str, columns: &'static [&'static str]) -> Self {
        Self {
            title,
            columns,
            cases: Vec::new(),
        }
    }

    /// Starts a case; what it returns is printed in its cell.
    pub(crate) fn cell<T: fmt::Display>(
        &mut self,
        row: impl Into<String>,
        column: &'static str,
        case: impl Future<Output = T> + Send + 'static,
    ) {
        assert!(self.columns.contains(&column), "no column {column:?}");
        let case = tokio::spawn(async move { case.await.to_string() });
        self.cases.push((row.into(), Case::Cell(column, case)));
    }

    /// Starts a case whose results are a row.
    pub(crate) fn row<const N: usize>(
        &mut self,
        row: impl Into<String>,
        case: impl Future<Output = [String; N]> + Send + 'static,
    ) {
        assert_eq!(N, self.columns.len());
        let case = tokio::spawn(async move { case.await.to_vec() });
        self.cases.push((row.into(), Case::Row(case)));
    }

    /// Waits for all cases.
    pub(crate) async fn finish(self) -> Finished {
        let mut finished = Finished {
            title: self.title,
            columns: self.columns,
            rows: Vec::new(),
            failures: Vec::new(),
        };
        for (row, case) in self.cases {
            let (columns, shown) = match case {
                Case::Cell(column, case) => (vec![column], case.await.map(|shown| vec![shown])),
                Case::Row(case) => (self.columns.to_vec(), case.await),
            };
            let shown = shown.unwrap_or_else(|panic| {
                let panic = panic.into_panic();
                let why = message(&*panic);
                let case = [&*row, columns[0]].join(", ");
                finished.failures.push(format!("{case}: {why}"));
                vec!["FAILED".to_owned(); columns.len()]
            });
            for (column, shown) in columns.into_iter().zip(shown) {
                finished.put(&row, column, shown);
            }
        }
        finished
    }
}

pub(crate) struct Finished {
    title: &'static str,
    columns: &'static [&'static str],
    rows: Vec<(String, Vec<String>)>,
    failures: Vec<String>,
}

impl Finished {
    fn put(&mut self, row: &str, column: &str, shown: String) {
        let column = self.columns.iter().position(|c| *c == column).unwrap();
        if self.rows.iter().all(|(known, _)| known != row) {
            let empty = vec![String::new(); self.columns.len()];
            self.rows.push((row.to_owned(), empty));
        }
        let cells = self.rows.iter_mut().find(|(known, _)| known == row);
        cells.unwrap().1[column] = shown;
    }

    /// Prints the table.
    ///
    /// # Panics
    ///
    /// If a case failed.
    pub(crate) fn check(self) {
        println!("{self}");
        assert!(
            self.failures.is_empty(),
            "{} failed:\n{}",
            self.title,
            self.failures.join("\n")
        );
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |texts: &mut dyn Iterator<Item = &str>| {
            texts.map(|text| text.chars().count()).max().unwrap_or(0)
        };
        let names = self.rows.iter().map(|(name, _)| name.as_str());
        let first = width(&mut names.chain([self.title]));
        let widths = self.columns.iter().enumerate().map(|(n, column)| {
            let cells = self.rows.iter().map(|(_, cells)| cells[n].as_str());
            width(&mut cells.chain([*column]))
        });
        let widths: Vec<_> = widths.collect();
        let mut line = |name: &str, cells: &[&str]| {
            let mut line = format!("{name:first$}");
            for (cell, width) in cells.iter().zip(&widths) {
                line += &format!("  {cell:width$}");
            }
            writeln!(f, "{}", line.trim_end())
        };
        line(self.title, self.columns)?;
        for (name, cells) in &self.rows {
            line(name, &cells.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panicked")
}
