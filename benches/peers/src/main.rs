//! The cost of a request with tower-m2m and with its alternatives: `cargo run --release -p peers`.
//!
//! All take turns in one process, round by round; the figures are medians of the rounds, in ns above the bare service,
//! times the threads that can run at once. Ratios are reliable. `--only TEXT` (contestants whose name holds it, and
//! what they are compared with; may be given again), `--quick` (a smoke test), `--json FILE`, `--plot FILE.svg`. Each
//! request is a clone, so that adding a header makes the map grow; with `--room` there is room in the map.
//!
//! `--loopback`: requests per second and latency end to end, with and without the layers. `--refresh`: latency while a
//! token is renewed, and the end of a cold start; with `--plot FILE.svg`, each request's latency through one refresh.
//! `--memory`: bytes of what there can be many of. `--instructions`: of each request, counted by callgrind.
//!
//! `--announced`: those that retry, over a server that announces its quota in every response: in the fields of Didit,
//! GitHub and the IETF's draft 10, and with a hundred origins; beside them, over one that never mentions limits. Clones
//! are kept.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod allocations;
#[path = "../../support/announced.rs"]
#[expect(dead_code, reason = "shared with the benchmarks of the crate")]
mod announced;
mod contestants;
mod goals;
mod inner;
mod instructions;
mod loopback;
mod memory;
mod options;
mod plot;
mod refresh;
mod renewal;
mod report;
mod turns;

use std::process::ExitCode;

use contestants::{CloneMode, Contestant, SILENT_AND_ANNOUNCING, Under};
use inner::Room;
use options::{Mode, Options};
use report::{Block, Row};
use turns::Turns;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("peers: {problem}");
            return ExitCode::from(2);
        }
    };
    // Some of the crates bring one provider, some the other.
    drop(rustls::crypto::ring::default_provider().install_default());
    let outcome = match options.mode {
        _ if options.count.is_some() => {
            let name = options.count.as_deref().unwrap_or_default();
            instructions::count(name, &options.under)
        }
        Mode::Instructions => instructions::run(&options),
        Mode::Requests | Mode::Announced => requests(&options),
        Mode::Loopback => loopback::run(&options),
        Mode::Refresh => refresh::run(&options),
        Mode::Memory => memory::run(&options),
    };
    if let Err(error) = outcome {
        eprintln!("peers: {error}");
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}

fn requests(options: &Options) -> std::io::Result<()> {
    // For contestants that spawn tasks; idle while there is a token.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let turns = Turns {
        room: if options.room { Room::Yes } else { Room::No },
        quick: options.quick,
    };
    let mut blocks = Vec::new();
    for (under, habits, threads) in plan(options.mode) {
        let all = runtime.block_on(async {
            match options.mode {
                Mode::Announced => contestants::retrying(under).await,
                _ => contestants::all(under).await,
            }
        });
        let all = wanted(all, &options.only)?;
        let allocations = turns::allocations_above_bare(&all);
        for &habit in habits {
            let rows = all.iter().zip(&allocations);
            let mut block = Block {
                under,
                habit,
                threads: threads.to_vec(),
                rows: rows.map(|(one, above)| Row::new(one, *above)).collect(),
            };
            for threads in &block.threads {
                let figures = turns::play(&all, habit, *threads, turns);
                for (row, figure) in block.rows.iter_mut().zip(figures) {
                    row.figures.push(figure);
                }
            }
            block.print();
            blocks.push(block);
        }
    }
    report::finish(&blocks, options)
}

/// The services, each with the ways to clone and the numbers of threads for which it is measured.
fn plan(mode: Mode) -> Vec<(Under, &'static [CloneMode], &'static [usize])> {
    if mode == Mode::Announced {
        let threads = |under| match under {
            Under::Announcing { origins: 100, .. } => &[1, 2, 8][..],
            _ => &[1, 2],
        };
        let all = SILENT_AND_ANNOUNCING.into_iter();
        return all
            .map(|under| (under, &[CloneMode::Reused][..], threads(under)))
            .collect();
    }
    let all = [Under::Free, Under::HyperUtil].into_iter();
    all.map(|under| (under, &CloneMode::ALL[..], &[1, 2, 8][..]))
        .collect()
}

/// Those whose names hold one of `only`, and whom they are compared with.
fn wanted(all: Vec<Contestant>, only: &[String]) -> std::io::Result<Vec<Contestant>> {
    if only.is_empty() {
        return Ok(all);
    }
    let mut names = Vec::new();
    for text in only {
        let named = all.iter().filter(|c| c.name.contains(text.as_str()));
        let before = names.len();
        names.extend(named.flat_map(|c| [c.name, c.reference]));
        if names.len() == before {
            let known: Vec<_> = all.iter().map(|c| c.name).collect();
            let known = known.join("\n  ");
            let problem =
                format!("no contestant name contains {text:?}; the contestants are\n  {known}");
            return Err(std::io::Error::other(problem));
        }
    }
    let bare = all.iter().filter(|c| names.contains(&c.name));
    let bare: Vec<_> = bare.map(|c| c.bare).collect();
    names.extend(bare);
    Ok(all
        .into_iter()
        .filter(|c| names.contains(&c.name))
        .collect())
}
