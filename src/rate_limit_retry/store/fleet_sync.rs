//! Quota sharing of one layer: an agent for each partition in use, and the slots of a
//! [`FleetQuota`](super::FleetQuota).
//!
//! Agents are started on demand, by the first request of a partition, on the runtime of that request. They are
//! aborted when the layer is dropped. An agent that was lost, because its runtime has ended or it has panicked, is
//! replaced by the next request.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle};

use super::{ProcessId, QuotaReport, Reservation, StoredQuotas, agent::run, context::AgentContext};
use crate::{
    clock::add_capped,
    random::Random,
    rate_limit_retry::{
        PartitionKey, RateLimitEvents, boottime::BoottimeClock, gate::Gate, resources::Resources,
    },
    sinks::Sinks,
    store::StoreError,
    sync::{Mutex, lock},
};

/// Shares one layer's quotas with the fleet.
pub(crate) struct FleetSync {
    /// The context of the agents.
    context: Arc<AgentContext>,
    /// Agents by partition, including finished ones that have not been removed yet.
    agents: Mutex<HashMap<PartitionKey, Agent>>,
}

/// A partition's agent.
///
/// | state | `task` | `aborted` | next request |
/// |---|---|---|---|
/// | running | not finished | `false` | uses it |
/// | retired, because the partition was idle | finished | `false` | starts another |
/// | ended early | finished | `true` | starts another, and reports the failure |
struct Agent {
    /// Handle to the agent's task.
    task: AbortHandle,
    /// Set if the agent ended early, because its runtime shut down or it panicked.
    aborted: Arc<AtomicBool>,
}

impl FleetSync {
    /// Creates the context under a new random process id. Starts no agents. `resources`: `None` if partitions are not
    /// divided.
    pub(crate) fn new(
        quotas: StoredQuotas,
        gate: Gate,
        resources: Option<Arc<Resources>>,
        clock: BoottimeClock,
        sinks: Sinks<RateLimitEvents>,
        random: Random,
    ) -> Self {
        Self {
            context: Arc::new(AgentContext {
                quotas,
                gate,
                resources,
                clock,
                process: ProcessId::random(),
                sinks,
                random,
                health: Mutex::default(),
                retry_at: Mutex::default(),
            }),
            agents: Mutex::default(),
        }
    }

    /// Returns whether requests reserve slots in the store.
    pub(crate) fn has_fleet_quota(&self) -> bool {
        self.context.quotas.fleet_quota.is_some()
    }

    /// Ensures that these partitions have agents. Reports a failure for each agent that was lost.
    pub(crate) fn ensure_agents(&self, keys: &[PartitionKey]) {
        for key in self.start_agents(keys) {
            let what = "did not complete the request: the runtime shut down, or the agent panicked";
            self.context
                .record_health(&key, Some(&StoreError::unavailable(what)));
        }
    }

    /// Starts the missing agents. Returns the partitions whose agents were lost.
    ///
    /// Does nothing outside a tokio runtime. Agents run on the runtime of the request that starts them; if that runtime
    /// shuts down while another one continues, the next request there starts a new agent.
    ///
    /// Costs one map lookup per key if all agents run. The lock is held while tasks are spawned, which runs no user
    /// code.
    fn start_agents(&self, keys: &[PartitionKey]) -> Vec<PartitionKey> {
        let mut aborted = Vec::new();
        let mut agents = lock(&self.agents);
        for key in keys {
            let former = agents.get(key);
            // An agent whose runtime has shut down counts as finished, too.
            if former.is_some_and(|agent| !agent.task.is_finished()) {
                continue;
            }
            // A later request, in a runtime, starts the agent.
            let Ok(runtime) = Handle::try_current() else {
                break;
            };
            // Relaxed: the flag publishes no other data.
            if former.is_some_and(|agent| agent.aborted.load(Relaxed)) {
                aborted.push(key.clone());
            }
            // Removes finished agents whenever the map has doubled, so that the cost per insertion is constant on
            // average.
            if agents.len().is_power_of_two() {
                agents.retain(|_, agent| !agent.task.is_finished());
            }
            let flag = Arc::<AtomicBool>::default();
            let serving = run(Arc::clone(&self.context), key.clone(), Arc::clone(&flag));
            let task = runtime.spawn(serving).abort_handle();
            agents.insert(
                key.clone(),
                Agent {
                    task,
                    aborted: flag,
                },
            );
        }
        aborted
    }

    /// Reports to the store that this process has no more reservations. Stops at the first failure.
    ///
    /// Agents are aborted and not waited for: a report that is on its way may arrive after the release. The reservation
    /// that it contains expires like any other.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the remaining reservations expire in the store after 1 s.
    pub(crate) async fn release_reservations(&self) {
        let shared = &self.context;
        let agents: Vec<_> = lock(&self.agents).drain().collect();
        // Aborts all agents first, so that none reports again, even if this future is dropped.
        for (_, agent) in &agents {
            agent.task.abort();
        }
        for (key, _) in agents {
            let identity = shared.quotas.cache_key(&key);
            let report = QuotaReport::new(shared.process);
            let call = async { shared.quotas.store.report(&identity, &report).await };
            // The remaining reservations expire in the store.
            if shared.ask(&key, call).await.is_err() {
                return;
            }
        }
    }

    /// Reserves a slot in each partition, due within `max_wait`. Returns the longest of the waits.
    ///
    /// Partitions are reserved one after the other. If a later one denies, the slots of the earlier ones are lost: that
    /// errs towards fewer requests.
    ///
    /// Returns `None` without a fleet quota, if the store fails, or until [`RETRY_INTERVAL`] has passed after a
    /// failure.
    pub(crate) async fn reserve(
        &self,
        keys: &[PartitionKey],
        max_wait: Duration,
    ) -> Option<Reservation> {
        let shared = &self.context;
        let fleet_quota = shared.quotas.fleet_quota?;
        let now = shared.clock.now();
        // A store that failed recently is not called again for each request.
        if lock(&shared.retry_at).is_some_and(|until| now < until) {
            return None;
        }
        let mut wait = Duration::ZERO;
        // A named quota of a partition is a part of it.
        for key in keys.iter().filter(|key| key.resource().is_none()) {
            let identity = shared.quotas.cache_key(key);
            let call = async {
                shared
                    .quotas
                    .store
                    .slot(&identity, fleet_quota, max_wait)
                    .await
            };
            match shared.ask(key, call).await {
                Ok(Reservation::Granted(after)) => wait = wait.max(after),
                // Slots already reserved in other partitions expire unused.
                Ok(late) => return Some(late),
                Err(_) => {
                    let until = add_capped(shared.clock.now(), RETRY_INTERVAL);
                    *lock(&shared.retry_at) = Some(until);
                    return None;
                }
            }
        }
        Some(Reservation::Granted(wait))
    }
}

impl Drop for FleetSync {
    fn drop(&mut self) {
        for agent in lock(&self.agents).values() {
            agent.task.abort();
        }
    }
}

impl fmt::Debug for FleetSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FleetSync")
            .field(&self.context.quotas)
            .finish()
    }
}

/// Pause of reservations after the store has failed, so that requests do not each wait for its time limit.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
