//! The gate's side of a store: what its agents report, and what they receive.
//!
//! An agent is the task that synchronizes one partition with the store. The gate does not know the task: it stores its
//! waker, and the time at which the task runs again by itself.
//!
//! | method | called |
//! |---|---|
//! | [`next_action`](Gate::next_action) | by the agent, in each poll |
//! | [`apply`](Gate::apply) | with the store's response |
//! | [`repeat_report`](Gate::repeat_report) | after the loss of one report |
//! | [`fall_back`](Gate::fall_back) | after repeated failures of the store, or when the agent has ended early |
//! | [`request_sync`](Gate::request_sync) | after a notification of the store |

use std::{task::Waker, time::Duration};

use tokio::time::Instant;

use super::{
    Gate,
    state::{GateState, wake_all},
};
use crate::{
    clock::add_capped,
    rate_limit_retry::{
        PartitionKey,
        quota::QuotaConfig,
        store::{ProcessId, QuotaReport, QuotaSnapshot},
    },
    sync::lock,
};

/// The next action of a partition's agent.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send this report to the store.
    Report(QuotaReport),
    /// Call [`Gate::next_action`] again at this time, or when woken. Always later than the time that was passed in.
    Wait(Instant),
    /// End: the partition is not in use.
    Retire,
}

impl Gate {
    /// Returns the next action of a partition's agent. For [`Action::Wait`], `waker` is woken when a report is due
    /// sooner.
    ///
    /// A report that is returned counts as in flight until [`apply`](Self::apply),
    /// [`repeat_report`](Self::repeat_report) or [`fall_back`](Self::fall_back) is called. The agent ends if the
    /// partition was removed, or has not been used for [`AGENT_IDLE_TIMEOUT`] and has no waiters; the next admission starts another.
    pub(crate) fn next_action(
        &self,
        key: &PartitionKey,
        process: ProcessId,
        waker: &Waker,
        now: Instant,
    ) -> Action {
        let mut state = lock(&self.0.state);
        let Some(partition) = state.partitions.get_mut(key) else {
            return Action::Retire;
        };
        let due = partition.quota.report_due(now);
        if due.is_some_and(|due| due <= now)
            && let Some(report) = {
                let config = &self.0.config;
                partition
                    .quota
                    .report(process, partition.queue.len(), config, now)
            }
        {
            return Action::Report(report);
        }
        // A partition without any request was created by its owner, and counts as used now.
        let used = partition.quota.last_used().unwrap_or(now);
        let unused = add_capped(used, AGENT_IDLE_TIMEOUT);
        if unused <= now && partition.queue.is_empty() {
            return Action::Retire;
        }
        // At least 1 ms ahead: a report that is due but not available must not make the agent spin.
        let at = due
            .unwrap_or(unused)
            .max(add_capped(now, Duration::from_millis(1)));
        let former = partition.agent.replace((waker.clone(), at));
        drop(state);
        // A waker runs code of its task when it is dropped.
        drop(former);
        Action::Wait(at)
    }

    /// Applies the store's response. Returns the remaining time of a hold of other processes, if that hold is new
    /// here.
    ///
    /// A hold or a window closes the fast path. Waiters are dispatched, because the grant may have grown.
    pub(crate) fn apply(
        &self,
        key: &PartitionKey,
        snapshot: &QuotaSnapshot,
        now: Instant,
    ) -> Option<Duration> {
        let (held, wakers) = {
            let mut state = lock(&self.0.state);
            let partition = state.partitions.get_mut(key)?;
            let held = partition.quota.apply(snapshot, self.0.config.max_hold, now);
            if held.is_some() || !snapshot.windows.is_empty() {
                partition.disable_fast_path();
            }
            let wakers = state.dispatch(std::slice::from_ref(key), &self.0.config, now);
            (held, wakers)
        };
        wake_all(wakers);
        held.map(|until| until.saturating_duration_since(now))
    }

    /// Makes the next report due now, because another process has reported something.
    pub(crate) fn request_sync(&self, key: &PartitionKey) {
        let mut state = lock(&self.0.state);
        if let Some(partition) = state.partitions.get_mut(key) {
            partition.quota.request_sync();
        }
    }

    /// Repeats a report that was lost, at `retry_at`. Until then, the grants remain as they are.
    pub(crate) fn repeat_report(&self, key: &PartitionKey, retry_at: Instant) {
        let mut state = lock(&self.0.state);
        if let Some(partition) = state.partitions.get_mut(key) {
            partition.quota.repeat_report(retry_at);
        }
    }

    /// Falls back to what this process knows itself, because the store has failed. The next report is due at
    /// `retry_at`.
    ///
    /// Waiters are dispatched: without a grant, only the local view of the quota limits them.
    pub(crate) fn fall_back(&self, key: &PartitionKey, retry_at: Instant, now: Instant) {
        let wakers = {
            let mut state = lock(&self.0.state);
            if let Some(partition) = state.partitions.get_mut(key) {
                partition.quota.fall_back(retry_at);
            }
            state.dispatch(std::slice::from_ref(key), &self.0.config, now)
        };
        wake_all(wakers);
    }
}

impl GateState {
    /// Takes the wakers of these partitions' agents that have a report due before the time at which they run by
    /// themselves.
    ///
    /// An agent's waker is taken once; its next call to [`Gate::next_action`] registers it again.
    pub(super) fn take_agent_wakers(
        &mut self,
        keys: &[PartitionKey],
        config: &QuotaConfig,
        now: Instant,
    ) -> Vec<Waker> {
        if !config.shared {
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

/// Time after the last use of a partition at which its agent ends. Long, because a new agent has to subscribe again;
/// the cost of an idle agent is one timer.
const AGENT_IDLE_TIMEOUT: Duration = Duration::from_secs(600);
