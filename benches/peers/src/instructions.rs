//! Instructions for each request, counted by callgrind in a process of its own for each contestant.

use std::{fs, io, process::Command};

use crate::{
    contestants::{self, CloneMode, Contestant, Under},
    inner::Room,
    options::Options,
    wanted,
};

/// Runs itself under valgrind, once for each contestant.
pub fn run(options: &Options) -> io::Result<()> {
    let all = wanted(all()?, &options.only)?;
    let own = std::env::current_exe()?;
    let kept = std::env::temp_dir().join(format!("peers-{}.callgrind", std::process::id()));
    let count = |name: &str| -> io::Result<f64> {
        let ran = Command::new("valgrind")
            .arg("--tool=callgrind")
            .arg(format!("--callgrind-out-file={}", kept.display()))
            .arg("--toggle-collect=peers::instructions::measured*")
            .arg(&own)
            .args(["--count", name])
            .output();
        let output = ran.map_err(|error| {
            let missing = format!("valgrind does not start: {error} (apt-get install valgrind)");
            io::Error::new(error.kind(), missing)
        })?;
        let text = fs::read_to_string(&kept).unwrap_or_default();
        let sum = text.lines().find_map(|line| {
            let sum = line.strip_prefix("summary: ");
            sum.or(line.strip_prefix("totals: "))?.trim().parse().ok()
        });
        let sum: f64 = sum.ok_or_else(|| {
            let words = String::from_utf8_lossy(&output.stderr);
            io::Error::other(format!("callgrind counted nothing for {name}: {words}"))
        })?;
        Ok(sum / ROUNDS as f64)
    };
    println!(
        "Instructions per request in addition to the bare service, one clone per thread, one thread\n"
    );
    let mut counted: Vec<(&str, f64)> = Vec::new();
    for contestant in &all {
        let figure = count(contestant.name)?;
        counted.push((contestant.name, figure));
        let bare = counted.iter().find(|(name, _)| *name == contestant.bare);
        match bare {
            Some((bare, figure)) if *bare == contestant.name => {
                println!("{bare:44}{figure:>8.0} in total");
            }
            bare => {
                let above = figure - bare.map_or(0.0, |(_, bare)| *bare);
                println!("{:44}{above:>8.0}", contestant.name);
            }
        }
    }
    fs::remove_file(kept)
}

/// What is counted: [`ROUNDS`] requests of one contestant.
pub fn count(name: &str) -> io::Result<()> {
    let all = all()?;
    let one = all.iter().find(|contestant| contestant.name == name);
    let one = one.ok_or_else(|| io::Error::other(format!("no contestant is named {name}")))?;
    let mut send = one.sender(CloneMode::Reused, Room::No);
    // Until nothing is new any more.
    send(3 * ROUNDS);
    measured(|| send(ROUNDS));
    // Their tasks are of no interest any more, and some take long to end under valgrind.
    std::process::exit(0);
}

fn all() -> io::Result<Vec<Contestant>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let all = runtime.block_on(contestants::all(Under::Free));
    // Some contestants spawn tasks on the runtime and find it through its context.
    std::mem::forget(Box::leak(Box::new(runtime)).enter());
    Ok(all)
}

/// The function whose instructions are counted.
#[inline(never)]
fn measured(work: impl FnOnce()) {
    work();
}

const ROUNDS: u64 = 1000;
