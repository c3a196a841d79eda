//! What has happened: progress while it runs, and a table at the end.

use std::{
    collections::BTreeMap,
    fmt,
    io::{IsTerminal, Write, stderr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tower_m2m::rate_limit_retry::headers::{RateLimitInfo, Unit};

use crate::answer::Answer;

/// Counts what happens. Shared by all workers.
#[derive(Debug)]
pub(crate) struct Report {
    total: usize,
    began: Instant,
    /// Whether standard error is a terminal: only a terminal can overwrite a line.
    is_terminal: bool,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    answered: usize,
    failed: usize,
    rejected: u64,
    waiting: i64,
    tokens: u64,
    streamed_for: Duration,
    longest_stream: Duration,
    /// The limits that the API has announced, by their unit.
    limits: BTreeMap<&'static str, u64>,
}

/// The result of a run.
#[derive(Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) answered: usize,
    pub(crate) failed: usize,
    /// Requests that the API has rejected because of a limit. Each was sent again.
    pub(crate) rejected: u64,
    pub(crate) tokens: u64,
    pub(crate) elapsed: Duration,
    /// The least possible time, as far as it is known.
    pub(crate) optimum: Duration,
    limits: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(crate) fn new(total: usize) -> Self {
        Self {
            total,
            began: Instant::now(),
            is_terminal: stderr().is_terminal(),
            counts: Mutex::default(),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the limits that a response announces.
    pub(crate) fn announced(&self, info: &RateLimitInfo) {
        let mut counts = self.counts();
        for limit in &info.limits {
            let unit = match (limit.unit, limit.name.as_deref()) {
                (Unit::Requests, _) => "requests",
                (_, Some("tokens")) => "tokens",
                _ => continue,
            };
            if let Some(limit) = limit.limit {
                counts.limits.insert(unit, limit);
            }
        }
    }

    pub(crate) fn throttled(&self) {
        self.counts().rejected += 1;
    }

    pub(crate) fn queued(&self, change: i64) {
        self.counts().waiting += change;
    }

    pub(crate) fn answered(&self, answer: &Answer) {
        let mut counts = self.counts();
        counts.answered += 1;
        counts.tokens += answer.tokens.unwrap_or_default();
        counts.streamed_for += answer.streamed_for;
        counts.longest_stream = counts.longest_stream.max(answer.streamed_for);
    }

    pub(crate) fn failed(&self, index: usize, error: &str) {
        self.counts().failed += 1;
        self.clear();
        eprintln!("prompt {}: {error}", index + 1);
    }

    /// Shows the progress, on a terminal.
    pub(crate) fn show(&self) {
        if !self.is_terminal {
            return;
        }
        let counts = self.counts();
        let done = counts.answered + counts.failed;
        let full = done * BAR_WIDTH / self.total.max(1);
        eprint!(
            "\r{}{} {done}/{} prompts, {} tokens, {} waiting for a limit, {:.0} s\x1b[K",
            "█".repeat(full),
            "░".repeat(BAR_WIDTH - full),
            self.total,
            counts.tokens,
            counts.waiting.max(0),
            self.began.elapsed().as_secs_f64(),
        );
        // A bar that is late is no reason to stop.
        let _ = stderr().flush();
    }

    /// Removes the progress.
    pub(crate) fn clear(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }

    pub(crate) fn summary(&self, workers: usize) -> Summary {
        let counts = self.counts();
        let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
        // A window or a full bucket at the start, and then what is refilled.
        let quota = |(unit, used): (&str, u64)| {
            let limit = counts.limits.get(unit)?;
            Some(60.0 * used.saturating_sub(*limit) as f64 / (*limit).max(1) as f64)
        };
        let sent = (counts.answered + counts.failed) as u64;
        let quotas = [("requests", sent), ("tokens", counts.tokens)];
        let least = quotas.into_iter().filter_map(quota).fold(0.0, f64::max);
        Summary {
            answered: counts.answered,
            failed: counts.failed,
            rejected: counts.rejected,
            tokens: counts.tokens,
            elapsed: self.began.elapsed(),
            optimum: Duration::from_secs_f64(least)
                .max(counts.streamed_for / workers)
                .max(counts.longest_stream),
            limits: counts.limits.clone(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (elapsed, optimum) = (self.elapsed.as_secs_f64(), self.optimum.as_secs_f64());
        writeln!(f, "{:<22} {:>10}", "answers", self.answered)?;
        writeln!(f, "{:<22} {:>10}", "failed", self.failed)?;
        writeln!(f, "{:<22} {:>10}", "rejected (429)", self.rejected)?;
        writeln!(f, "{:<22} {:>10}", "tokens", self.tokens)?;
        for (unit, limit) in &self.limits {
            writeln!(f, "{:<22} {limit:>10}", format!("{unit} per minute"))?;
        }
        writeln!(f, "{:<22} {:>9.1} s", "time", elapsed)?;
        writeln!(f, "{:<22} {:>9.1} s", "least possible time", optimum)?;
        writeln!(
            f,
            "{:<22} {:>10.3}",
            "time ÷ least",
            elapsed / optimum.max(0.001)
        )
    }
}

const BAR_WIDTH: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tokens: u64, seconds: u64) -> Answer {
        Answer {
            text: String::new(),
            tokens: Some(tokens),
            streamed_for: Duration::from_secs(seconds),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_time_is_that_of_the_scarcest_limit_or_of_the_streams() {
        let report = Report::new(2);
        report.answered(&answer(100, 4));
        report.answered(&answer(100, 2));
        assert_eq!(report.summary(1).optimum, Duration::from_secs(6));
        assert_eq!(report.summary(2).optimum, Duration::from_secs(4));

        // 100 tokens at the start, and the others within a minute.
        report.counts().limits.insert("tokens", 100);
        assert_eq!(report.summary(2).optimum, Duration::from_secs(60));
    }
}
