//! Rate-limit handling side by side, in virtual time: `cargo run --release -p arena`.
//!
//! Prints a table for each scenario, and exits with 1 if `tower-m2m` misses a goal.
//! `--seeds N` (default 5), `--only TEXT` (scenarios whose name holds it), `--ours` (without the peers), `--json FILE`;
//! for other servers than those in the table `--limit N` (default 300) and `--window SECONDS` (default 60).
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "the arena measures virtual time with tokio's clock"
)]

mod contestants;
mod model;
mod report;
mod run;
mod scenario;
mod world;

use std::process::ExitCode;

use report::{Report, Row};
use run::{Figures, run};
use scenario::Numbers;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("arena: {problem}");
            return ExitCode::from(2);
        }
    };
    let mut contestants = contestants::all();
    if options.ours {
        contestants.truncate(1);
    }
    let mut report = Report::default();
    for scenario in scenario::all() {
        if !scenario
            .name
            .contains(options.only.as_deref().unwrap_or(""))
        {
            continue;
        }
        let rows = contestants.iter().map(|contestant| {
            let runs = (1..=options.seeds).map(|seed| {
                let numbers = Numbers {
                    limit: options.limit,
                    window: options.window,
                    phase: (0.443 + 0.618 * (seed - 1) as f64).fract(),
                };
                run(&scenario, contestant, &numbers, seed)
            });
            Row::new(contestant.name, median(runs.collect()))
        });
        report.add(&scenario, rows.collect());
    }
    report.finish(options.json.as_deref())
}

/// The run in the middle by time needed; what must never happen counts if it happened in any run.
fn median(mut runs: Vec<Figures>) -> Figures {
    runs.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let mut middle = runs[runs.len() / 2].clone();
    let mut refused: Vec<_> = runs.iter().map(|run| run.refused).collect();
    refused.sort_unstable();
    middle.refused = refused[refused.len() / 2];
    middle.failed = runs.iter().map(|run| run.failed).max().unwrap_or_default();
    middle.early = runs.iter().map(|run| run.early).max().unwrap_or_default();
    middle.deadlock = runs.iter().any(|run| run.deadlock);
    middle
}

struct Options {
    seeds: u64,
    limit: u64,
    window: f64,
    only: Option<String>,
    ours: bool,
    json: Option<String>,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            seeds: 5,
            limit: 300,
            window: 60.0,
            only: None,
            ours: false,
            json: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--seeds" => {
                    options.seeds = value()?.parse().map_err(|_| "--seeds needs a number")?;
                    if options.seeds == 0 {
                        return Err("--seeds needs a number above 0".into());
                    }
                }
                "--limit" => {
                    options.limit = value()?.parse().map_err(|_| "--limit needs a number")?;
                }
                "--window" => {
                    options.window = value()?.parse().map_err(|_| "--window needs seconds")?;
                }
                "--only" => options.only = Some(value()?),
                "--ours" => options.ours = true,
                "--json" => options.json = Some(value()?),
                _ => return Err(format!("unknown option {word}; see the top of src/main.rs")),
            }
        }
        Ok(options)
    }
}
