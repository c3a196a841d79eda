//! Scripted faults, and a record of requests.
//!
//! The doubles use locks of std, not of `crate::sync`: loom does not test them.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{BoxError, fault_target::FaultTarget, recorded_request::RecordedRequest};

/// The scripted faults of a double.
#[derive(Debug)]
pub(super) struct Script<F>(Mutex<State<F>>);

/// The faults of a script.
#[derive(Debug)]
struct State<F> {
    /// Faults of one request each, in order.
    next: VecDeque<Rule<F>>,
    /// Faults of every request that has none of those, in order.
    always: Vec<Rule<F>>,
}

/// A fault, and the requests that it is for.
#[derive(Debug)]
struct Rule<F> {
    /// The requests.
    target: FaultTarget,
    /// Number of requests so far that have the target's method and path.
    seen: u64,
    /// The fault.
    fault: F,
}

impl<F: Clone> Script<F> {
    /// Creates a script without faults.
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State {
            next: VecDeque::new(),
            always: Vec::new(),
        }))
    }

    /// Adds a fault for one request.
    pub(super) fn push(&self, target: FaultTarget, fault: F) {
        lock(&self.0).next.push_back(Rule::new(target, fault));
    }

    /// Sets the fault of every request of the target that no other fault is for. `None` removes it.
    pub(super) fn always(&self, target: FaultTarget, fault: Option<F>) {
        let always = &mut lock(&self.0).always;
        always.retain(|rule| rule.target != target);
        always.extend(fault.map(|fault| Rule::new(target, fault)));
        // Stable: those for any request are considered last.
        always.sort_by_key(|rule| rule.target == FaultTarget::any());
    }

    /// Takes the fault of the current request, which `matches` compares with a target.
    pub(super) fn take(&self, matches: impl Fn(&FaultTarget) -> bool) -> Option<F> {
        let mut state = lock(&self.0);
        // Each rule counts the request, whichever applies.
        let is_due = |rule: &mut Rule<F>| {
            let matches = matches(&rule.target);
            rule.seen += u64::from(matches);
            matches && rule.seen >= rule.target.first()
        };
        let due: Vec<bool> = state.next.iter_mut().map(is_due).collect();
        let always: Vec<bool> = state.always.iter_mut().map(is_due).collect();
        if let Some(index) = due.into_iter().position(|due| due) {
            return state.next.remove(index).map(|rule| rule.fault);
        }
        let index = always.into_iter().position(|due| due)?;
        Some(state.always[index].fault.clone())
    }
}

impl<F> Rule<F> {
    /// Creates a rule that has not counted any request.
    const fn new(target: FaultTarget, fault: F) -> Self {
        Self {
            target,
            seen: 0,
            fault,
        }
    }
}

/// The last requests.
#[derive(Debug)]
pub(super) struct Record(Mutex<VecDeque<RecordedRequest>>);

impl Record {
    /// Creates an empty record.
    pub(super) const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// Adds a request, and drops the oldest one if the record is full.
    pub(super) fn push(&self, request: RecordedRequest) {
        let mut requests = lock(&self.0);
        // Bounded, so that a load test does not run out of memory.
        if requests.len() == MAX_RECORDED {
            requests.pop_front();
        }
        requests.push_back(request);
    }

    /// Returns the requests, oldest first.
    pub(super) fn to_vec(&self) -> Vec<RecordedRequest> {
        lock(&self.0).iter().cloned().collect()
    }
}

/// Locks `mutex`. A poisoned lock is recovered: what these locks guard is consistent after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the error that makes the server close the connection, and that an in-process caller gets.
pub(super) fn reset() -> BoxError {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by script").into()
}

/// Returns the error that makes the server reset the stream with this code (RFC 9113 §7).
pub(super) fn reset_stream(code: u32) -> BoxError {
    h2::Error::from(h2::Reason::from(code)).into()
}

/// Maximum number of recorded requests.
const MAX_RECORDED: usize = 10_000;
