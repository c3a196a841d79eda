//! The partitions of a request, and the request's number in each of them.

use std::sync::Arc;

use crate::rate_limit_retry::PartitionKey;

/// The partition keys of a request, without duplicates. Shared by all attempts of a call.
pub(crate) type Keys = Arc<[PartitionKey]>;

/// The request's number in each of its partitions, in the order of its keys.
///
/// Nearly all requests have one partition, which needs no allocation.
#[derive(Clone, Debug)]
pub(super) enum Numbers {
    /// The number of the only partition.
    One(u64),
    /// The numbers of any other number of partitions.
    Many(Box<[u64]>),
}

impl Numbers {
    /// Collects the number in each partition.
    pub(super) fn of(keys: &[PartitionKey], mut number: impl FnMut(&PartitionKey) -> u64) -> Self {
        match keys {
            [key] => Self::One(number(key)),
            keys => Self::Many(keys.iter().map(number).collect()),
        }
    }

    /// Returns the numbers.
    pub(super) fn as_slice(&self) -> &[u64] {
        match self {
            Self::One(number) => std::slice::from_ref(number),
            Self::Many(numbers) => numbers,
        }
    }
}
