//! Tokens and requests per minute, as LLM APIs count them.

use super::{Bucket, Model, Quota, Verdict};
use crate::job::Job;

/// How tokens are refilled.
#[derive(Clone, Copy)]
pub enum Refill {
    /// Continuously. The announced reset is the time at which the bucket is full again.
    Steady,
    /// All at once at the end of each minute. Contains the end of the first one, in seconds.
    Windows(f64),
}

/// A balance of tokens. A request takes its estimate when it arrives; the end of its response corrects the balance,
/// which can become negative.
#[derive(Clone)]
struct Balance {
    limit: f64,
    refill: Refill,
    level: f64,
    at: f64,
    /// Future corrections: their time, the amount, and the time at which the estimate was taken.
    due: Vec<(f64, f64, f64)>,
}

const MINUTE: f64 = 60.0;

impl Balance {
    fn new(limit: u64, refill: Refill) -> Self {
        Self {
            limit: limit as f64,
            refill,
            level: limit as f64,
            at: 0.0,
            due: Vec::new(),
        }
    }

    /// Returns the end of the window at `at`.
    fn end(&self, at: f64) -> f64 {
        match self.refill {
            Refill::Steady => f64::INFINITY,
            Refill::Windows(phase) => {
                (((at - phase) / MINUTE).floor() + 1.0) * MINUTE + phase + 1e-6
            }
        }
    }

    /// Refills until `to`, without corrections.
    fn fill(&mut self, to: f64) {
        match self.refill {
            Refill::Steady => {
                let filled = self.level + (to - self.at).max(0.0) * self.limit / MINUTE;
                self.level = filled.min(self.limit);
            }
            Refill::Windows(_) if to >= self.end(self.at) => self.level = self.limit,
            Refill::Windows(_) => {}
        }
        self.at = to;
    }

    /// Refills and corrects until `to`.
    fn advance(&mut self, to: f64) {
        while let Some(next) = self.next_due(to) {
            let (when, by, taken) = self.due.remove(next);
            self.fill(when);
            // A correction has no effect after the end of its window.
            if when < self.end(taken) {
                self.level = (self.level + by).min(self.limit);
            }
        }
        self.fill(to);
    }

    /// Returns the index of the next correction until `to`.
    fn next_due(&self, to: f64) -> Option<usize> {
        let due = self.due.iter().enumerate().filter(|(_, due)| due.0 <= to);
        due.min_by(|a, b| a.1.0.total_cmp(&b.1.0))
            .map(|(index, _)| index)
    }

    fn estimate(&self, job: &Job) -> f64 {
        (job.estimate as f64).min(self.limit)
    }

    fn has(&self, tokens: f64) -> bool {
        self.level >= tokens - 1e-6
    }

    fn take(&mut self, at: f64, job: &Job) {
        let estimate = self.estimate(job);
        self.level -= estimate;
        let by = estimate - job.cost as f64;
        self.due.push((at + job.stream, by, at));
    }

    /// Returns the time at which `tokens` are available, with or without future corrections.
    fn reaches(&self, tokens: f64, at: f64, corrected: bool) -> f64 {
        let mut ahead = self.clone();
        ahead.advance(at);
        if !corrected {
            ahead.due.clear();
        }
        while !ahead.has(tokens) {
            let filled = match ahead.refill {
                Refill::Steady => ahead.at + (tokens - ahead.level) * MINUTE / ahead.limit,
                Refill::Windows(_) => ahead.end(ahead.at),
            };
            let next = ahead.next_due(filled).map(|next| ahead.due[next].0);
            ahead.advance(next.unwrap_or(filled));
        }
        ahead.at.max(at)
    }
}

/// Requests and tokens per minute. Announces both.
pub struct Tokens {
    requests: Bucket,
    tokens: Balance,
}

impl Tokens {
    pub fn new(requests: u64, tokens: u64, refill: Refill) -> Self {
        Self {
            requests: Bucket::new(requests as f64 / MINUTE, requests as f64),
            tokens: Balance::new(tokens, refill),
        }
    }

    /// Returns the job as the quota of requests counts it.
    fn one(job: &Job) -> Job {
        Job {
            cost: 1,
            ..job.clone()
        }
    }
}

impl Model for Tokens {
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        self.tokens.advance(at);
        let (one, estimate) = (Self::one(job), self.tokens.estimate(job));
        let free = self.requests.earliest(at, &one);
        let accepted = free <= at + 1e-9 && self.tokens.has(estimate);
        let retry = free.max(self.tokens.reaches(estimate, at, false));
        if accepted {
            self.tokens.take(at, job);
            self.requests.take(at, &one);
        }
        let (limit, level) = (self.requests.limit(), self.requests.level(at));
        let full = match self.tokens.refill {
            Refill::Steady => {
                at + (self.tokens.limit - self.tokens.level) * MINUTE / self.tokens.limit
            }
            Refill::Windows(_) => self.tokens.end(at),
        };
        Verdict {
            full_again: true,
            retry,
            tokens: Some(Quota {
                limit: self.tokens.limit as u64,
                remaining: self.tokens.level.max(0.0) as u64,
                reset: full,
            }),
            ..Verdict::new(
                accepted,
                limit,
                MINUTE,
                level.max(0.0) as u64,
                self.requests.full(at),
            )
        }
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        let tokens = self.tokens.reaches(self.tokens.estimate(job), at, true);
        self.requests.earliest(tokens, &Self::one(job))
    }
}
