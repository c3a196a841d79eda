//! What a layer shares: an agent for each partition that is in use, and the slots of an exact quota.

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

use super::{ProcessId, QuotaReport, Slot, StoredQuotas, agent::serve, context::Shared};
use crate::{
    clock::after,
    random::Random,
    rate_limit_retry::{PartitionKey, RateLimitEvents, boottime::BoottimeClock, gate::Gate},
    sinks::Sinks,
    store::StoreError,
    sync::{Mutex, lock},
};

/// One layer's part in the fleet.
pub(crate) struct Sharing {
    shared: Arc<Shared>,
    agents: Mutex<HashMap<PartitionKey, Agent>>,
}

/// A partition's agent.
struct Agent {
    task: AbortHandle,
    /// Set when it ended early: with its runtime, or by a panic.
    lost: Arc<AtomicBool>,
}

impl Sharing {
    pub(crate) fn new(
        quotas: StoredQuotas,
        gate: Gate,
        clock: BoottimeClock,
        sinks: Sinks<RateLimitEvents>,
        random: Random,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                quotas,
                gate,
                clock,
                process: ProcessId::random(),
                sinks,
                random,
                health: Mutex::default(),
                rests: Mutex::default(),
            }),
            agents: Mutex::default(),
        }
    }

    /// Whether requests take slots.
    pub(crate) fn is_exact(&self) -> bool {
        self.shared.quotas.exact.is_some()
    }

    /// Sees that these partitions have agents.
    pub(crate) fn attend(&self, keys: &[PartitionKey]) {
        for key in self.start_agents(keys) {
            let what = "was not asked to the end: the runtime has ended, or the agent panicked";
            self.shared.note(&key, Some(&StoreError::unavailable(what)));
        }
    }

    /// Starts the agents that are missing. Returns the partitions whose agents were lost.
    fn start_agents(&self, keys: &[PartitionKey]) -> Vec<PartitionKey> {
        let mut lost = Vec::new();
        let mut agents = lock(&self.agents);
        for key in keys {
            let former = agents.get(key);
            // One that was on a runtime that is gone has finished, too.
            if former.is_some_and(|agent| !agent.task.is_finished()) {
                continue;
            }
            let Ok(runtime) = Handle::try_current() else {
                break;
            };
            if former.is_some_and(|agent| agent.lost.load(Relaxed)) {
                lost.push(key.clone());
            }
            if agents.len().is_power_of_two() {
                agents.retain(|_, agent| !agent.task.is_finished());
            }
            let flag = Arc::<AtomicBool>::default();
            let serving = serve(Arc::clone(&self.shared), key.clone(), Arc::clone(&flag));
            let task = runtime.spawn(serving).abort_handle();
            agents.insert(key.clone(), Agent { task, lost: flag });
        }
        lost
    }

    /// Tells the store that nothing is reserved for this process any more.
    pub(crate) async fn give_back(&self) {
        let shared = &self.shared;
        let agents: Vec<_> = lock(&self.agents).drain().collect();
        // All of them first: none says anything else afterwards, even if this future is dropped.
        for (_, agent) in &agents {
            agent.task.abort();
        }
        for (key, _) in agents {
            let identity = shared.quotas.identity(&key);
            let report = QuotaReport::new(shared.process);
            let asked = async { shared.quotas.store.report(&identity, &report).await };
            // Then what was reserved comes back by itself.
            if shared.ask(&key, asked).await.is_err() {
                return;
            }
        }
    }

    /// Takes a slot of each partition, no later than in `longest`. `None` if there are none to be had: the store fails, or
    /// none are asked for.
    pub(crate) async fn slot(&self, keys: &[PartitionKey], longest: Duration) -> Option<Slot> {
        let shared = &self.shared;
        let exact = shared.quotas.exact?;
        let now = shared.clock.now();
        if lock(&shared.rests).is_some_and(|until| now < until) {
            return None;
        }
        let mut wait = Duration::ZERO;
        for key in keys {
            let identity = shared.quotas.identity(key);
            let asked = async { shared.quotas.store.slot(&identity, exact, longest).await };
            match shared.ask(key, asked).await {
                Ok(Slot::After(after)) => wait = wait.max(after),
                Ok(late) => return Some(late),
                Err(_) => {
                    let until = after(shared.clock.now(), REST);
                    *lock(&shared.rests) = Some(until);
                    return None;
                }
            }
        }
        Some(Slot::After(wait))
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        for agent in lock(&self.agents).values() {
            agent.task.abort();
        }
    }
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sharing").field(&self.shared.quotas).finish()
    }
}

/// After a failure slots are asked for again when so much time has passed.
const REST: Duration = Duration::from_secs(1);
