//! The partitions of a request.

use std::sync::Arc;

use crate::rate_limit_retry::PartitionKey;

/// The partition keys of a request, without duplicates. Shared by all attempts of a call.
pub(crate) type Keys = Arc<[PartitionKey]>;
