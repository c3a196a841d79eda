//! Instructions for each request, counted by callgrind in a process of its own for each contestant; and allocations.

use std::{fs, io, path::Path, process::Command};

use crate::{
    contestants::{self, CloneMode, Contestant, SILENT_AND_ANNOUNCING, Under},
    inner::Room,
    options::Options,
    turns, wanted,
};

/// Runs itself under valgrind, once for each contestant.
pub fn run(options: &Options) -> io::Result<()> {
    println!(
        "Instructions and allocations per request in addition to the bare service; instructions ÷ those of what does \
         the same without tower-m2m.\nOne clone per thread, one thread"
    );
    let file = std::env::temp_dir().join(format!("peers-{}.callgrind", std::process::id()));
    for under in SILENT_AND_ANNOUNCING {
        println!("\nOver {}\n", under.title());
        let all = wanted(all(under)?, &options.only)?;
        let allocations = turns::allocations_above_bare(&all);
        let mut counted: Vec<(&Contestant, f64)> = Vec::new();
        for contestant in &all {
            counted.push((contestant, instructions(contestant.name, under, &file)?));
        }
        let total = |name| counted.iter().find(|(one, _)| one.name == name);
        let above = |name| {
            let (one, own) = total(name)?;
            let (_, bare) = total(one.bare)?;
            Some(own - bare)
        };
        for ((contestant, own), allocations) in counted.iter().zip(allocations) {
            let name = contestant.name;
            if name == contestant.bare {
                println!("{name:44}{own:>8.0} in total");
                continue;
            }
            let own = above(name).unwrap_or(*own);
            let reference = above(contestant.reference).filter(|_| contestant.reference != name);
            let ratio = reference.map_or(String::new(), |other| format!("{:.2} ×", own / other));
            println!("{name:44}{own:>8.0}{ratio:>10}{allocations:>8.1}");
        }
    }
    fs::remove_file(file)
}

fn instructions(name: &str, under: Under, file: &Path) -> io::Result<f64> {
    let ran = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg("--toggle-collect=peers::instructions::measured*")
        .arg(std::env::current_exe()?)
        .args(["--count", name, "--under", &under.name()])
        .output();
    let output = ran.map_err(|error| {
        let missing = format!("valgrind does not start: {error} (apt-get install valgrind)");
        io::Error::new(error.kind(), missing)
    })?;
    let text = fs::read_to_string(file).unwrap_or_default();
    let sum = text.lines().find_map(|line| {
        let sum = line.strip_prefix("summary: ");
        sum.or(line.strip_prefix("totals: "))?.trim().parse().ok()
    });
    let sum: f64 = sum.ok_or_else(|| {
        let words = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!("callgrind counted nothing for {name}: {words}"))
    })?;
    Ok(sum / ROUNDS as f64)
}

/// What is counted: [`ROUNDS`] requests of one contestant over the service with the name `under`.
pub fn count(name: &str, under: &str) -> io::Result<()> {
    let under = SILENT_AND_ANNOUNCING
        .into_iter()
        .find(|known| known.name() == under)
        .ok_or_else(|| io::Error::other(format!("no service is named {under}")))?;
    let all = all(under)?;
    let one = all.iter().find(|contestant| contestant.name == name);
    let one = one.ok_or_else(|| io::Error::other(format!("no contestant is named {name}")))?;
    let mut send = one.sender(CloneMode::Reused, Room::No);
    // Until nothing is new any more.
    send(3 * ROUNDS);
    measured(|| send(ROUNDS));
    // Their tasks are of no interest any more, and some take long to end under valgrind.
    std::process::exit(0);
}

fn all(under: Under) -> io::Result<Vec<Contestant>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let all = runtime.block_on(contestants::all(under));
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
