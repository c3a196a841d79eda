//! The reasons why a waiting request is not admitted.

use tokio::time::Instant;

use crate::rate_limit_retry::{PartitionKey, quota::ExceededLimit};

/// Why a waiting request was not admitted.
#[derive(Debug)]
pub(super) enum NotAdmitted {
    /// It would be admitted too late. Contains the end of the hold, if that is known.
    TooLate(Option<Instant>),
    /// It costs more than a limit of this partition.
    CostTooHigh(PartitionKey, ExceededLimit),
}
