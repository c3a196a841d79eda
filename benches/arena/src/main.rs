//! Rate-limit handling side by side, in virtual time: `cargo run --release -p arena`.
//!
//! Prints a table for each scenario, and exits with 1 if `tower-m2m` misses a goal, or does worse where it is known to
//! miss one. `--seeds N` (default 5), `--only TEXT` (scenarios whose name holds it), `--ours` (without the peers),
//! `--json FILE`, `--plot FILE.svg` (of the main scenarios). With `--ours`, all 80 scenarios take about 30 s.
//!
//! For other servers than those in the table `--limit N` (default 300) and `--window SECONDS` (default 60), and for
//! other clients `--rtt SECONDS`, `--workers N` and `--processes N`, which replace what a scenario says. Where there are
//! several processes, they are also played with a store that they share, whose round trip takes `--store-latency SECONDS`
//! (default 0.002), and of whose answers `--store-loss SHARE` (0 to 1, default 0.001) are lost.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "the arena measures virtual time with tokio's clock"
)]

mod body;
mod contestants;
mod dialect;
mod holds;
mod job;
mod model;
mod options;
mod plot;
mod report;
mod run;
mod scenario;
mod world;

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
    thread,
};

use contestants::Contestant;
use options::Options;
use report::{Report, Row};
use run::{Figures, run};
use scenario::{Numbers, Scenario};

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
        contestants.truncate(2);
    }
    let mut scenarios = scenario::all();
    scenarios.retain(|scenario| scenario.name.contains(&options.only));
    if scenarios.is_empty() {
        eprintln!("arena: no scenario name contains \"{}\"", options.only);
        return ExitCode::from(2);
    }
    for scenario in &mut scenarios {
        scenario.vary(&options);
    }
    let mut report = Report::default();
    for (number, scenario) in scenarios.iter().enumerate() {
        let plays = |contestant: &&Contestant| !contestant.shares || scenario.processes > 1;
        let rows = contestants.iter().filter(plays).map(|contestant| {
            let (of, name) = (scenarios.len(), &scenario.name);
            progress(&format!("{}/{of} {}: {name}", number + 1, contestant.name));
            Row {
                name: contestant.name,
                shares: contestant.shares,
                figures: median(runs(scenario, contestant, &options)),
            }
        });
        let rows = rows.collect();
        progress("");
        report.add(scenario, rows);
    }
    report.finish(&options)
}

/// One run for each seed, side by side.
fn runs(scenario: &Scenario, contestant: &Contestant, options: &Options) -> Vec<Figures> {
    thread::scope(|scope| {
        let runs = (1..=options.seeds).map(|seed| {
            let seed = std::env::var("SEED").map_or(seed, |s| s.parse().unwrap());
            let numbers = Numbers {
                limit: options.limit,
                window: options.window,
                store_latency: options.store_latency,
                store_loss: options.store_loss,
                phase: (0.443 + 0.618 * (seed - 1) as f64).fract(),
                seed,
            };
            scope.spawn(move || run(scenario, contestant, &numbers, seed))
        });
        let runs: Vec<_> = runs.collect();
        let done = |run: thread::ScopedJoinHandle<'_, Figures>| run.join().expect("no run panics");
        runs.into_iter().map(done).collect()
    })
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
    middle.unfinished = runs.iter().any(|run| run.unfinished);
    middle
}

/// Prints a progress line over the last one.
fn progress(line: &str) {
    if stderr().is_terminal() {
        eprint!("\r\x1b[K{line:.78}");
    }
}
