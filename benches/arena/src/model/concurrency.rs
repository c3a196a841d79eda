//! A concurrency limit.

use super::{Model, RejectionScope, Verdict};
use crate::job::Job;

/// Processes `slots` requests at a time, `service` seconds each, and rejects others at once. A slot is free when the
/// response has been sent with its body.
pub struct Concurrency {
    slots: usize,
    service: f64,
    /// The times at which the slots in use become free.
    leaving: Vec<f64>,
}

/// The wait that a rejection requests, in seconds. The server does not know when a slot will be free.
const WAIT: f64 = 1.0;

impl Concurrency {
    pub fn new(slots: usize, service: f64) -> Self {
        Self {
            slots,
            service,
            leaving: Vec::new(),
        }
    }
}

impl Model for Concurrency {
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        self.leaving.retain(|leaves| *leaves > at);
        let accepted = self.leaving.len() < self.slots;
        if accepted {
            self.leaving.push(at + self.service + job.stream);
        }
        let free = (self.slots - self.leaving.len()) as u64;
        Verdict {
            retry: at + WAIT,
            rejection_scope: RejectionScope::Request,
            service: if accepted { self.service } else { 0.0 },
            ..Verdict::new(accepted, self.slots as u64, 0.0, free, at + WAIT)
        }
    }

    fn earliest(&self, at: f64, _: &Job) -> f64 {
        let mut busy: Vec<_> = self.leaving.iter().filter(|leaves| **leaves > at).collect();
        busy.sort_by(|a, b| a.total_cmp(b));
        match busy.len().checked_sub(self.slots) {
            // The slot is free at that time, not after it.
            Some(over) => *busy[over],
            None => at,
        }
    }
}
