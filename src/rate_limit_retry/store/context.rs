//! What the agents of a layer share.

use std::future::Future;

use tokio::time::{Instant, timeout};

use super::{ProcessId, StoredQuotas};
use crate::{
    panics::surviving,
    random::Random,
    rate_limit_retry::{
        PartitionKey, RateLimitEvent, RateLimitEvents, boottime::BoottimeClock, gate::Gate,
    },
    sinks::Sinks,
    store::{Access, Change, Health, StoreError},
    sync::{Mutex, lock},
};

/// What its agents need.
pub(super) struct Shared {
    pub(super) quotas: StoredQuotas,
    pub(super) gate: Gate,
    pub(super) clock: BoottimeClock,
    pub(super) process: ProcessId,
    pub(super) sinks: Sinks<RateLimitEvents>,
    pub(super) random: Random,
    pub(super) health: Mutex<Health>,
    /// No slots are asked for before then, because the store has failed.
    pub(super) rests: Mutex<Option<Instant>>,
}

impl Shared {
    /// Asks the store, for as long as it may take, and tells if it begins to fail or works again. A panic is a failure.
    pub(super) async fn ask<T>(
        &self,
        partition: &PartitionKey,
        asked: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit = self.quotas.answer_within;
        let answer = timeout(limit, surviving(asked))
            .await
            .unwrap_or_else(|_| Some(Err(StoreError::timeout(limit))))
            .unwrap_or_else(|| Err(panicked()));
        self.note(partition, answer.as_ref().err());
        answer
    }

    /// Tells if the store begins to fail or works again.
    pub(super) fn note(&self, partition: &PartitionKey, error: Option<&StoreError>) {
        let change = lock(&self.health).learn(Access::Read, error);
        match (change, error) {
            (Some(Change::Failed), Some(error)) => {
                self.sinks
                    .emit(&RateLimitEvent::StoreFailed { partition, error });
            }
            (Some(Change::Recovered), _) => {
                self.sinks
                    .emit(&RateLimitEvent::StoreRecovered { partition });
            }
            _ => {}
        }
    }
}

pub(super) fn panicked() -> StoreError {
    StoreError::unavailable("panicked")
}
