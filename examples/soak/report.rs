//! The table at the end, and which promises were kept.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tower_m2m::client_credentials::TokenEvent;

use crate::{callers::Work, director::World};

/// Resident memory in bytes.
#[derive(Default)]
pub(crate) struct Memory {
    /// After a tenth of the run, when all buffers are there.
    pub(crate) start: u64,
    pub(crate) middle: u64,
    /// When everything is over.
    pub(crate) end: u64,
}

pub(crate) struct Report {
    elapsed: Duration,
    started: u64,
    succeeded: u64,
    left: u64,
    failed: BTreeMap<String, u64>,
    sent: u64,
    processed: usize,
    twice: u64,
    token_requests: u64,
    pub(crate) token_bound: u64,
    max_connections: usize,
    pub(crate) fetches: u64,
    pub(crate) stuck: usize,
    /// How long after the trouble all calls succeeded.
    pub(crate) recovery: Option<Duration>,
    pub(crate) connections: usize,
    /// Before, and at the end.
    pub(crate) tasks: (usize, usize),
    pub(crate) memory: Memory,
}

impl Report {
    pub(crate) fn new(work: &Work, world: &World, elapsed: Duration, memory: Memory) -> Self {
        let api = &world.api_server.faults;
        Self {
            elapsed,
            started: work.started() as u64,
            succeeded: work.succeeded.load(Relaxed),
            left: work.left.load(Relaxed),
            failed: work.failed(),
            sent: api.arrived.load(Relaxed),
            processed: api.ledger.processed(),
            twice: api.ledger.twice(),
            token_requests: world.issuer_server.faults.arrived.load(Relaxed),
            token_bound: 0,
            max_connections: api.max_open.load(Relaxed),
            fetches: 0,
            stuck: 0,
            recovery: None,
            connections: 0,
            tasks: (0, 0),
            memory,
        }
    }

    /// What was promised, and whether it was kept.
    pub(crate) fn promises(&self) -> Vec<(&'static str, bool)> {
        let failed: u64 = self.failed.values().sum();
        let Memory { middle, end, .. } = self.memory;
        vec![
            (
                "each call has one outcome",
                self.succeeded + self.left + failed == self.started,
            ),
            ("no caller is stuck", self.stuck == 0),
            (
                "all calls succeed soon after the failures end",
                self.recovery.is_some(),
            ),
            (
                "no POST that may have been processed is retried",
                self.twice == 0,
            ),
            (
                "token requests stay within their bound",
                self.token_requests <= self.token_bound && self.fetches <= self.token_bound,
            ),
            ("no task is left", self.tasks.1 == self.tasks.0),
            ("no connection is left open", self.connections == 0),
            ("memory does not grow", end <= middle + middle / 4 + SLACK),
        ]
    }

    pub(crate) fn print(&self) {
        let seconds = self.elapsed.as_secs_f64();
        row("seconds", format!("{seconds:.1}"));
        row("calls", self.started);
        row(
            "  a second",
            format!("{:.0}", self.started as f64 / seconds),
        );
        row("succeeded", self.succeeded);
        row("abandoned by their callers", self.left);
        row("failed", self.failed.values().sum::<u64>());
        for (reason, count) in &self.failed {
            row(&format!("  {reason}"), count);
        }
        row("requests that reached the API", self.sent);
        row("POSTs that may have been processed", self.processed);
        row("  of these retried", self.twice);
        row("token requests", self.token_requests);
        row("  started", self.fetches);
        row("  bound", self.token_bound);
        row("callers stuck", self.stuck);
        let recovery = self
            .recovery
            .map(|time| format!("{:.1}", time.as_secs_f64()));
        row(
            "seconds from recovery to success",
            recovery.unwrap_or("never".into()),
        );
        row("tasks before", self.tasks.0);
        row("tasks at the end", self.tasks.1);
        row("maximum connections", self.max_connections);
        row("connections at the end", self.connections);
        let Memory { start, middle, end } = self.memory;
        for (name, bytes) in [("start", start), ("middle", middle), ("end", end)] {
            row(&format!("memory at the {name}, MiB"), bytes >> 20);
        }
        for (promise, kept) in self.promises() {
            println!("{} {promise}", if kept { "kept  " } else { "BROKEN" });
        }
    }
}

/// How many token requests there may be at most in that time.
pub(crate) fn bound(world: &World, elapsed: Duration) -> u64 {
    let times = |every: u64| elapsed.as_secs() / every + 1;
    // A token of 5 s is renewed in its last second or a little earlier; never after less than 3 s.
    let renewals = times(3);
    // However often a token is rejected, it is replaced at most once in 2 s.
    let refusals = times(2);
    // One meets the fault or the wrong secret; of an outage, one is broken off and one finds the door closed.
    let faults = world.issuer_server.faults.made.load(Relaxed);
    let outages = 2 * world.issuer_outages.load(Relaxed);
    let rotations = world.rotations.load(Relaxed);
    renewals + refusals + faults + outages + rotations
}

pub(crate) fn count(event: &TokenEvent<'_>, fetches: &AtomicU64) {
    if let TokenEvent::FetchStarted { .. } = event {
        fetches.fetch_add(1, Relaxed);
    }
}

/// How much of this process is in memory; 0 where the system does not say.
pub(crate) fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm");
    let pages = pages.as_deref().unwrap_or_default().split(' ').nth(1);
    pages.and_then(|pages| pages.parse().ok()).unwrap_or(0) * PAGE
}

fn row<T: Display>(name: &str, value: T) {
    println!("{name:<40}{value:>12}");
}

const PAGE: u64 = 4096;
/// What an allocator may keep.
const SLACK: u64 = 16 << 20;
