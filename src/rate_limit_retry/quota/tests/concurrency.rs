//! Servers that limit what they process at the same time.

use super::{simulation::{Figures, Load, Server, run}, *};

/// Processes a number of requests at a time, which may change, and throttles the rest at once.
struct Slots {
    /// From when on how many, in microseconds.
    steps: Vec<(u64, usize)>,
    service: u64,
    hint: Option<Duration>,
    running: usize,
}

impl Slots {
    fn new(slots: usize, service: u64) -> Self {
        Self { steps: vec![(0, slots)], service, hint: None, running: 0 }
    }
}

impl Server for Slots {
    fn take(&mut self, at: u64) -> (Result<u64, ()>, RateLimitInfo) {
        let slots = self.steps.iter().rev().find(|(from, _)| *from <= at).unwrap().1;
        if self.running >= slots {
            let info = RateLimitInfo { retry_after: self.hint, ..RateLimitInfo::default() };
            return (Err(()), info);
        }
        self.running += 1;
        (Ok(self.service), RateLimitInfo::default())
    }

    fn finish(&mut self, _at: u64) {
        self.running -= 1;
    }
}

fn load(workers: usize, jobs: usize, rtt: u64) -> Load {
    Load { processes: 1, workers, jobs, rtt, seed: 1 }
}

#[test]
#[ignore]
fn table() {
    for (slots, service, workers) in [(8, 200, 16), (8, 200, 64), (1, 20, 16), (3, 20, 16), (10, 20, 64), (100, 20, 256),
        (1, 150, 16), (3, 150, 16), (10, 150, 64), (100, 150, 256), (1, 2000, 16), (3, 2000, 16), (10, 2000, 64), (100, 2000, 256)] {
        for hint in [None, Some(secs(1))] {
            for rtt in [2, 40] {
                let mut out = String::new();
                for seed in 1..=3 {
                    let mut server = Slots::new(slots, service * 1000);
                    server.hint = hint;
                    let jobs = if service == 2000 { 300 * slots.min(10) } else {1200.max(slots * 30) };
                    let figures = run(&mut server, Load { seed, ..load(workers, jobs, rtt * 1000) });
                    let best = (jobs as f64 / slots as f64).ceil() * service as f64 / 1e3;
                    let busy = jobs as f64 / slots as f64 * (service + rtt) as f64 / 1e3;
                    out += &format!(" {:.3} {:.3} {:.1}% e{}", figures.seconds / best, figures.seconds / busy, 100.0 * figures.throttled as f64 / jobs as f64, figures.early);
                }
                println!("{slots} × {service} ms, {workers} workers, {hint:?}, rtt {rtt}: {out}");
            }
        }
    }
}

#[test]
#[ignore]
fn one() {
    let get = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (slots, service, workers, rtt) = (get("SLOTS") as usize, get("SERVICE"), get("WORKERS") as usize, get("RTT"));
    let mut server = Slots::new(slots, service * 1000);
    server.hint = (get("HINT") > 0).then(|| secs(get("HINT")));
    let figures = run(&mut server, Load { seed: 1, ..load(workers, get("JOBS") as usize, rtt * 1000) });
    println!("{} s, {} throttled", figures.seconds, figures.throttled);
}
