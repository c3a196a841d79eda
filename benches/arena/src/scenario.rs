//! What is played: the servers, the loads, and the goals.

use crate::{
    model::{
        BrownOut, Bucket, FixedWindow, Lowered, Model, PenaltyBox, SlidingCounter, SlidingLog,
        Stacked,
    },
    world::Dialect,
};

/// The numbers of the servers, where a scenario has none of its own.
pub struct Numbers {
    pub limit: u64,
    /// In seconds.
    pub window: f64,
    /// How much of the first window is left at the start, `0.0..1.0`.
    pub phase: f64,
}

impl Numbers {
    fn fixed(&self) -> FixedWindow {
        FixedWindow::new(self.limit, self.window, self.window * self.phase)
    }

    /// Requests a second.
    fn rate(&self) -> f64 {
        self.limit as f64 / self.window
    }
}

pub struct Scenario {
    pub name: &'static str,
    pub model: fn(&Numbers) -> Box<dyn Model>,
    pub dialect: Dialect,
    pub processes: usize,
    /// Of each process.
    pub workers: usize,
    pub jobs: usize,
    pub rtt: f64,
    /// By how much the clients' wall clocks are ahead, in seconds.
    pub skew: f64,
    /// The share of callers who leave while they wait.
    pub leaving: f64,
    pub goal: Goal,
}

/// What the median of the seeds has to reach.
#[derive(Clone, Copy)]
pub struct Goal {
    pub ratio: f64,
    pub refused: Refused,
    pub jain: f64,
}

#[derive(Clone, Copy)]
pub enum Refused {
    /// Of the jobs.
    Share(f64),
    Count(usize),
}

impl Refused {
    pub fn most(self, jobs: usize) -> usize {
        match self {
            Self::Share(share) => (jobs as f64 * share).floor() as usize,
            Self::Count(count) => count,
        }
    }
}

fn scenario(
    name: &'static str,
    model: fn(&Numbers) -> Box<dyn Model>,
    dialect: Dialect,
    workers: usize,
    jobs: usize,
    ratio: f64,
    refused: Refused,
) -> Scenario {
    Scenario {
        name,
        model,
        dialect,
        processes: 1,
        workers,
        jobs,
        rtt: 0.04,
        skew: 0.0,
        leaving: 0.0,
        goal: Goal {
            ratio,
            refused,
            jain: 0.0,
        },
    }
}

impl Scenario {
    fn processes(mut self, processes: usize) -> Self {
        self.processes = processes;
        self.goal.jain = 0.95;
        self
    }

    fn skew(mut self, skew: f64) -> Self {
        self.skew = skew;
        self
    }
}

pub fn all() -> Vec<Scenario> {
    use Dialect::{Full, Ietf, Lying, NoRetryAfter, OnRefusal, RetryAfter, Silent};
    use Refused::{Count, Share};

    vec![
        scenario(
            "fixed window, full headers, 1 worker",
            fixed,
            Full,
            1,
            900,
            1.02,
            Share(0.001),
        ),
        scenario(
            "fixed window, full headers, 16 workers",
            fixed,
            Full,
            16,
            1200,
            1.02,
            Share(0.001),
        ),
        scenario(
            "fixed window, full headers, 256 workers",
            fixed,
            Full,
            256,
            2400,
            1.02,
            Share(0.001),
        ),
        scenario(
            "sliding log, full headers, 16 workers",
            sliding,
            Full,
            16,
            1200,
            1.02,
            Share(0.001),
        ),
        scenario(
            "sliding log, full headers, 256 workers",
            sliding,
            Full,
            256,
            2400,
            1.02,
            Share(0.001),
        ),
        scenario(
            "sliding counter, full headers, 16 workers",
            counter,
            Full,
            16,
            1200,
            1.05,
            Share(0.03),
        ),
        scenario(
            "fixed window, current IETF fields, 16 workers",
            fixed,
            Ietf,
            16,
            1200,
            1.02,
            Share(0.001),
        ),
        scenario(
            "sliding log, headers on 429 only, 32 workers",
            sliding,
            OnRefusal,
            32,
            1200,
            1.02,
            Count(34),
        ),
        scenario(
            "fixed window, headers on 429 only, 32 workers",
            fixed,
            OnRefusal,
            32,
            1200,
            1.02,
            Count(34),
        ),
        scenario(
            "token bucket 5/s, burst 30, whole-second hint, 16 workers",
            bucket,
            RetryAfter,
            16,
            1200,
            1.01,
            Share(0.03),
        ),
        scenario(
            "token bucket 40/s, burst 40, whole-second hint, 16 workers",
            quick,
            RetryAfter,
            16,
            4000,
            1.01,
            Share(0.03),
        ),
        scenario(
            "fixed window, no headers, 16 workers",
            fixed,
            Silent,
            16,
            1200,
            1.03,
            Share(0.04),
        ),
        scenario(
            "sliding log, no headers, 16 workers",
            sliding,
            Silent,
            16,
            1200,
            1.03,
            Share(0.04),
        ),
        scenario(
            "5,000 an hour, epoch only, 64 workers",
            hourly,
            NoRetryAfter,
            64,
            12_000,
            1.001,
            Share(0.001),
        ),
        scenario(
            "fixed window, clock 90 s ahead",
            fixed,
            NoRetryAfter,
            16,
            1200,
            1.02,
            Share(0.001),
        )
        .skew(90.0),
        scenario(
            "fixed window, clock 90 s behind",
            fixed,
            NoRetryAfter,
            16,
            1200,
            1.02,
            Share(0.001),
        )
        .skew(-90.0),
        scenario(
            "fixed window, clock 1 h behind",
            fixed,
            NoRetryAfter,
            16,
            1200,
            1.02,
            Share(0.001),
        )
        .skew(-3600.0),
        scenario(
            "fixed window, clock 1 h ahead",
            fixed,
            NoRetryAfter,
            16,
            1200,
            1.02,
            Share(0.001),
        )
        .skew(3600.0),
        scenario(
            "fixed window, clock 1 day ahead",
            fixed,
            NoRetryAfter,
            16,
            1200,
            1.02,
            Share(0.001),
        )
        .skew(86_400.0),
        scenario(
            "fixed window, full headers, 2 processes of 8",
            fixed,
            Full,
            8,
            1200,
            1.02,
            Share(0.03),
        )
        .processes(2),
        scenario(
            "fixed window, full headers, 8 processes of 4",
            fixed,
            Full,
            4,
            1200,
            1.02,
            Share(0.03),
        )
        .processes(8),
        scenario(
            "sliding log, full headers, 8 processes of 4",
            sliding,
            Full,
            4,
            1200,
            1.02,
            Share(0.03),
        )
        .processes(8),
        scenario(
            "refused requests count, no headers, 16 workers",
            grudge,
            Silent,
            16,
            1200,
            1.05,
            Share(0.03),
        ),
        scenario(
            "penalty box of 5 min, full headers, 16 workers",
            penalty,
            Full,
            16,
            1200,
            1.01,
            Count(0),
        ),
        scenario(
            "20 per 1 s and 100 per 120 s, full headers, 16 workers",
            stacked,
            Full,
            16,
            500,
            1.05,
            Share(0.03),
        ),
        scenario(
            "limit lowered from 300 to 100 in mid-run, full headers",
            lowered,
            Full,
            16,
            1200,
            1.05,
            Share(0.03),
        ),
        scenario(
            "remaining is a lie, Retry-After always 1",
            fixed,
            Lying,
            16,
            1200,
            1.1,
            Share(0.2),
        ),
        scenario(
            "brown-out of 20 s, 503 without headers",
            brown_out,
            Silent,
            16,
            1200,
            1.1,
            Share(0.15),
        ),
        Scenario {
            leaving: 0.05,
            ..scenario(
                "fixed window, full headers, 5 % of callers leave",
                fixed,
                Full,
                16,
                1200,
                1.02,
                Share(0.001),
            )
        },
    ]
}

fn fixed(n: &Numbers) -> Box<dyn Model> {
    Box::new(n.fixed())
}

fn sliding(n: &Numbers) -> Box<dyn Model> {
    Box::new(SlidingLog::new(n.limit as usize, n.window))
}

fn counter(n: &Numbers) -> Box<dyn Model> {
    Box::new(SlidingCounter::new(n.limit, n.window))
}

fn bucket(n: &Numbers) -> Box<dyn Model> {
    Box::new(Bucket::new(n.rate(), n.limit as f64 / 10.0))
}

fn quick(n: &Numbers) -> Box<dyn Model> {
    Box::new(Bucket::new(8.0 * n.rate(), 8.0 * n.rate()))
}

fn hourly(n: &Numbers) -> Box<dyn Model> {
    Box::new(FixedWindow::new(5000, 3600.0, 3600.0 * n.phase))
}

fn grudge(n: &Numbers) -> Box<dyn Model> {
    Box::new(SlidingLog::new(n.limit as usize, n.window).counting_refused())
}

fn penalty(n: &Numbers) -> Box<dyn Model> {
    Box::new(PenaltyBox::new(n.fixed(), 5.0 * n.window))
}

fn stacked(n: &Numbers) -> Box<dyn Model> {
    Box::new(Stacked(vec![
        Box::new(FixedWindow::new(20, 1.0, n.phase)),
        Box::new(FixedWindow::new(100, 120.0, 120.0 * n.phase)),
    ]))
}

fn lowered(n: &Numbers) -> Box<dyn Model> {
    Box::new(Lowered::new(n.fixed(), 1.5 * n.window, n.limit / 3))
}

fn brown_out(n: &Numbers) -> Box<dyn Model> {
    Box::new(BrownOut {
        inner: Box::new(n.fixed()),
        from: n.window * n.phase + 0.4,
        until: n.window * n.phase + 20.4,
    })
}
