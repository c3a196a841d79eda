//! Partition keys: which requests share a quota.
//!
//! Choose the partitions as the server counts: per credential, per route, per tenant. Partitions that are too coarse
//! hold requests that the server would accept; partitions that are too fine exceed the quota before they learn of it.
//!
//! By default the origin of a request is its key. If responses show that routes have different named quotas, each of
//! these quotas has a key of its own (see `resources`). With a function of the user, a request can have several keys.
//! It is sent when the quotas of all its keys allow it.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use http::{Uri, request::Parts};

use crate::Origin;

/// The name of a partition. Requests with equal keys share its quotas.
///
/// Default: the request's origin, within one layer value. An [`M2mLayer`](crate::M2mLayer) appends the credential's
/// name, if it has one: `https://api.example.com as orders`. If responses show that routes have different quotas, the
/// server's name of a quota is appended for its partition: `https://api.github.com search`.
///
/// Cheap to clone. Two keys are equal if their names are equal, however they were created.
///
/// Each key has a quota in memory. Idle ones are removed once there are 10,000, so a key per user is possible; a key
/// per request, such as a full path with ids, defeats the purpose, because no request learns from another one.
///
/// # Examples
///
/// One quota per tenant, for an API that counts by a header:
///
/// ```
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::PartitionKey};
///
/// let layer = RateLimitRetryLayer::builder().partition_by(|request| {
///     let tenant = request.headers.get("x-tenant");
///     let tenant = tenant.and_then(|value| value.to_str().ok());
///     PartitionKey::new(format!("tenant {}", tenant.unwrap_or("none")))
/// });
/// # drop(layer.build());
/// ```
///
/// One for searches and one for the rest:
///
/// ```
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::PartitionKey};
///
/// // Searches have a quota of their own.
/// let layer = RateLimitRetryLayer::builder().partition_by(|request| {
///     let search = request.uri.path().starts_with("/search");
///     PartitionKey::new(if search { "search" } else { "rest" })
/// });
/// # drop(layer.build());
/// ```
#[derive(Clone)]
pub struct PartitionKey {
    /// The name.
    name: Arc<str>,
    /// Index at which the name of the quota begins, if this is the partition of a named quota; otherwise 0. Not
    /// compared.
    resource_at: u32,
}

impl PartitionKey {
    /// Creates the key of a custom partition, such as a tenant or a route. Must not contain secrets: events contain
    /// it.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            resource_at: 0,
        }
    }

    /// Creates the key for a named quota of a partition: `https://api.github.com search`.
    pub(crate) fn for_resource(partition: &Self, resource: &str) -> Self {
        let resource_at = partition.name.len() + 1;
        Self {
            name: format!("{partition} {resource}").into(),
            resource_at: u32::try_from(resource_at).unwrap_or_default(),
        }
    }

    /// Returns the server's name of the quota, if this is the partition of a named quota.
    pub(crate) fn resource(&self) -> Option<&str> {
        let at = self.resource_at as usize;
        self.name.get(at..).filter(|_| at > 0)
    }

    /// Returns the name, as it appears in events, in errors and in the labels of metrics.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Returns the key for the origin of `uri` and the credential's name. All URIs without a host share one origin.
    ///
    /// The text is part of the store key of shared quotas: a change of its form separates processes of different
    /// versions.
    pub(crate) fn for_origin(uri: &Uri, credential: Option<&str>) -> Self {
        // A URI without a valid origin maps to the empty string.
        let origin = Origin::of(uri).map_or_else(String::new, |origin| origin.to_string());
        Self::new(match credential {
            // The separator cannot occur in an origin, so that no two pairs have the same key.
            Some(name) => format!("{origin} as {name}"),
            None => origin,
        })
    }
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PartitionKey").field(&self.name).finish()
    }
}

impl PartialEq for PartitionKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for PartitionKey {}

impl Hash for PartitionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Ord for PartitionKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

impl PartialOrd for PartitionKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<&str> for PartitionKey {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for PartitionKey {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// How the layer derives the partition keys of a request. Only [`ByOrigin`](Self::ByOrigin) allows the fast path, which
/// finds a partition by scheme and authority.
#[derive(Clone, Default)]
pub(crate) enum Partitioning {
    /// One key: the origin, with the credential's name if there is one.
    #[default]
    ByOrigin,
    /// The keys that the user's function returns.
    By(Arc<dyn Fn(&Parts) -> Vec<PartitionKey> + Send + Sync>),
}

impl fmt::Debug for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByOrigin => "ByOrigin",
            Self::By(_) => "By(..)",
        })
    }
}
