//! The gate's side of a store: what its agents are to tell, and what they bring.

use std::{task::Waker, time::Duration};

use tokio::time::Instant;

use super::{
    Gate,
    state::{State, wake},
};
use crate::{
    clock::after,
    rate_limit_retry::{
        PartitionKey,
        quota::Pace,
        store::{ProcessId, QuotaReport, QuotaView},
    },
    sync::lock,
};

/// What a partition's agent is to do.
#[derive(Debug)]
pub(crate) enum Duty {
    Report(QuotaReport),
    /// Come back then, or when woken.
    Wait(Instant),
    /// Nobody uses the partition.
    Gone,
}

impl Gate {
    /// What the agent of a partition is to do now; where it is nothing, it is woken when that changes.
    pub(crate) fn duty(
        &self,
        key: &PartitionKey,
        process: ProcessId,
        waker: &Waker,
        now: Instant,
    ) -> Duty {
        let mut state = lock(&self.0.state);
        let Some(partition) = state.partitions.get_mut(key) else {
            return Duty::Gone;
        };
        let due = partition.quota.report_due(now);
        if due.is_some_and(|due| due <= now)
            && let Some(report) = partition.quota.report(process, partition.queue.len(), now)
        {
            return Duty::Report(report);
        }
        let used = partition.quota.last_used().unwrap_or(now);
        let unused = after(used, UNUSED);
        if unused <= now && partition.queue.is_empty() {
            return Duty::Gone;
        }
        let at = due
            .unwrap_or(unused)
            .max(after(now, Duration::from_millis(1)));
        let former = partition.agent.replace((waker.clone(), at));
        drop(state);
        // Dropped outside the lock.
        drop(former);
        Duty::Wait(at)
    }

    /// Takes in what the store has answered. Returns for how long others hold the partition, if that is new.
    pub(crate) fn inform(
        &self,
        key: &PartitionKey,
        view: &QuotaView,
        now: Instant,
    ) -> Option<Duration> {
        let (held, woken) = {
            let mut state = lock(&self.0.state);
            let partition = state.partitions.get_mut(key)?;
            let held = partition.quota.inform(view, self.0.pace.max_hold, now);
            if held.is_some() || view.window.is_some() {
                partition.close();
            }
            let woken = state.let_go(std::slice::from_ref(key), &self.0.pace, now);
            (held, woken)
        };
        wake(woken);
        held.map(|until| until.saturating_duration_since(now))
    }

    /// Something has been told elsewhere: the next report is due.
    pub(crate) fn ask_store(&self, key: &PartitionKey) {
        let mut state = lock(&self.0.state);
        if let Some(partition) = state.partitions.get_mut(key) {
            partition.quota.ask_store();
        }
    }

    /// The store has failed, and is not asked before `rests`.
    pub(crate) fn go_alone(&self, key: &PartitionKey, rests: Instant, now: Instant) {
        let woken = {
            let mut state = lock(&self.0.state);
            if let Some(partition) = state.partitions.get_mut(key) {
                partition.quota.go_alone(rests);
            }
            state.let_go(std::slice::from_ref(key), &self.0.pace, now)
        };
        wake(woken);
    }
}

impl State {
    /// The agents of these partitions that have something to do sooner than they know.
    pub(super) fn called_agents(
        &mut self,
        keys: &[PartitionKey],
        pace: &Pace,
        now: Instant,
    ) -> Vec<Waker> {
        if !pace.shared {
            return Vec::new();
        }
        let called = |key| {
            let partition = self.partitions.get_mut(key)?;
            let due = partition.quota.report_due(now)?;
            let called = partition.agent.take_if(|(_, at)| due < *at);
            called.map(|(waker, _)| waker)
        };
        keys.iter().filter_map(called).collect()
    }
}

/// The agent of a partition that nobody has used for so long ends.
const UNUSED: Duration = Duration::from_secs(600);
