//! State that the agents of a layer share.
//!
//! All store calls except `changed` go through [`AgentContext::ask`], which applies the time limit and reports changes
//! of the store's health.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{ProcessId, QuotaSnapshot, StoredQuotas};
use crate::{
    catch_panic::catch_panic,
    random::Random,
    rate_limit_retry::{
        PartitionKey, RateLimitEvent, RateLimitEvents, boottime::BoottimeClock, gate::Gate,
        quota::divided_into, resources::Resources,
    },
    sinks::Sinks,
    store::{Access, Health, HealthChange, StoreError},
    sync::{Mutex, lock},
};

/// The context of a layer's agents.
pub(super) struct AgentContext {
    /// The store and its settings.
    pub(super) quotas: StoredQuotas,
    /// The layer's gate.
    pub(super) gate: Gate,
    /// The names of the quotas of each partition; `None` if partitions are not divided.
    pub(super) resources: Option<Arc<Resources>>,
    /// The layer's clock.
    pub(super) clock: BoottimeClock,
    /// The id under which this layer reports.
    pub(super) process: ProcessId,
    /// Receivers of events.
    pub(super) sinks: Sinks<RateLimitEvents>,
    /// Source of jitter.
    pub(super) random: Random,
    /// Whether store calls fail, so that each change is emitted once.
    pub(super) health: Mutex<Health>,
    /// Time until which no slots are requested, because the store has failed. Reports have a backoff of their own, in
    /// each agent.
    pub(super) retry_at: Mutex<Option<Instant>>,
}

impl AgentContext {
    /// Awaits a store call, for at most `timeout`, and emits an event if the store starts to fail or has
    /// recovered. A panic counts as a failure.
    ///
    /// # Errors
    ///
    /// The error of the store, or [`StoreError::unavailable`] after a panic.
    pub(super) async fn ask<T>(
        &self,
        partition: &PartitionKey,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let reply = ask_within(self.quotas.timeout, request).await;
        self.record_health(partition, reply.as_ref().err());
        reply
    }

    /// Applies the store's response to the gate.
    ///
    /// If another process has divided the partition, it is divided here as well.
    pub(super) fn apply(&self, key: &PartitionKey, snapshot: &QuotaSnapshot) {
        let now = self.clock.now();
        if let Some(held_for) = self.gate.apply(key, snapshot, now) {
            self.sinks.emit(&RateLimitEvent::RemoteHold {
                partition: key,
                held_for,
            });
        }
        if let Some(resources) = &self.resources
            && key.resource().is_none()
            && let Some(names) = divided_into(snapshot)
            && (resources.divide(key, &names) | !self.gate.is_divided(key))
        {
            self.gate.divide(key, &resources.all_keys(key), now);
        }
    }

    /// Returns whether the last store calls have succeeded.
    pub(super) fn is_healthy(&self) -> bool {
        !lock(&self.health).is_degraded()
    }

    /// Records the outcome of a store call. Emits an event if the store starts to fail or has recovered.
    ///
    /// Health is kept per layer and not per partition: a store that is down causes one event, not one for each
    /// partition.
    pub(super) fn record_health(&self, partition: &PartitionKey, error: Option<&StoreError>) {
        // The lock is released before the event is emitted.
        let change = lock(&self.health).record(Access::Read, error);
        match (change, error) {
            (Some(HealthChange::Failed), Some(error)) => {
                self.sinks
                    .emit(&RateLimitEvent::StoreFailed { partition, error });
            }
            (Some(HealthChange::Recovered), _) => {
                self.sinks
                    .emit(&RateLimitEvent::StoreRecovered { partition });
            }
            _ => {}
        }
    }
}

/// Awaits a store call, for at most `limit`. A panic counts as a failure.
///
/// # Errors
///
/// The error of the store, or [`StoreError::unavailable`] after the time limit or a panic.
pub(super) async fn ask_within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    // `catch_panic` returns `None` after a panic.
    timeout(limit, catch_panic(request))
        .await
        .unwrap_or_else(|_| Some(Err(StoreError::timeout(limit))))
        .unwrap_or_else(|| Err(panic_error()))
}

/// Returns the error for a store that has panicked.
pub(super) fn panic_error() -> StoreError {
    StoreError::unavailable("panicked")
}
