//! The partitions of a request.

use std::sync::Arc;

use crate::rate_limit_retry::PartitionKey;

/// Without duplicates. Shared by all attempts of a call.
pub(crate) type Keys = Arc<[PartitionKey]>;
