//! Reads the rate-limit fields of responses, with the layer's profile and the estimated clock skew of each server.
//!
//! The reference for dates in a response is chosen as follows:
//!
//! - Without fields about limits, no date is read.
//! - Otherwise, it is the server's time by the skew of the request's first partition, which the response itself
//!   updates.
//! - Without a partition, it is the local time.
//!
//! The skew belongs to the partition and not to the origin, because the partition is known without parsing the URI, and
//! because it is forgotten together with the partition's quota.

use std::{collections::HashMap, time::SystemTime};

use http::{HeaderMap, StatusCode};

use super::{
    PartitionKey,
    headers::{ClockSkew, HeaderProfile, RateLimitInfo, has_limit_fields, read, read_at},
};
use crate::sync::{Mutex, lock};

/// The header profile of a layer, and the clock skew per partition.
///
/// Every call whose response has fields about limits reads and updates the skew. A skew that is slightly out of date
/// is as accurate as the latest one.
#[derive(Debug, Default)]
pub(crate) struct HeaderReader {
    /// The user's header profile.
    profile: Option<Box<dyn HeaderProfile>>,
    /// Clock skew by partition. Bounded by [`MAX_SKEWS`].
    skews: Mutex<HashMap<PartitionKey, ClockSkew>>,
}

impl HeaderReader {
    /// Creates a reader without known skews.
    pub(crate) fn new(profile: Option<Box<dyn HeaderProfile>>) -> Self {
        Self {
            profile,
            skews: Mutex::default(),
        }
    }

    /// Returns the profile.
    #[inline]
    pub(crate) fn profile(&self) -> Option<&dyn HeaderProfile> {
        self.profile.as_deref()
    }

    /// Returns whether a response may have fields about limits. A profile may give a meaning to any field.
    #[inline]
    pub(crate) fn may_have_limits(&self, headers: &HeaderMap) -> bool {
        /// Not inlined: most layers have no profile.
        #[inline(never)]
        fn has_fields_of(profile: &dyn HeaderProfile, headers: &HeaderMap) -> bool {
            let mut names = headers.keys();
            names.any(|name| profile.field(name.as_str()).is_some())
        }

        let profile = self.profile();
        has_limit_fields(headers) || profile.is_some_and(|profile| has_fields_of(profile, headers))
    }

    /// Removes the clock skew of a partition.
    pub(crate) fn forget(&self, partition: &PartitionKey) {
        lock(&self.skews).remove(partition);
    }

    /// Reads the rate-limit fields of a response. `keys` are the partitions of its request; the first one identifies
    /// the server.
    ///
    /// A `Date` is rounded down to a second and may be old when it arrives. The skew combines the dates of all
    /// responses: it is more accurate, and also applies to responses without a `Date`.
    ///
    /// Takes the lock only for responses with fields about limits.
    pub(crate) fn read(
        &self,
        keys: &[PartitionKey],
        status: StatusCode,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> RateLimitInfo {
        // Most responses end here: the names are scanned, and no lock is taken.
        if !self.may_have_limits(headers) {
            return read(status, headers, now);
        }
        let profile = self.profile();
        let known = keys.first().map(|key| self.skew(key)).unwrap_or_default();
        let mut skew = known;
        let is_dated = keys.is_empty() || skew.observe_date(headers, now);
        let (mut info, has_both_forms) = read_at(profile, status, headers, skew.server_time(now));
        if has_both_forms && !is_dated {
            skew.observe(headers, now);
            if skew != known {
                (info, _) = read_at(profile, status, headers, skew.server_time(now));
            }
        }
        // A write only if the estimate has changed.
        if let Some(key) = keys.first().filter(|_| skew != known) {
            self.keep(key, skew);
        }
        info
    }

    /// Returns the clock skew of a partition, as far as it is known.
    fn skew(&self, key: &PartitionKey) -> ClockSkew {
        lock(&self.skews).get(key).copied().unwrap_or_default()
    }

    /// Keeps the clock skew of a partition. If two threads keep one at the same time, the later one counts.
    fn keep(&self, key: &PartitionKey, skew: ClockSkew) {
        let mut skews = lock(&self.skews);
        if skews.len() >= MAX_SKEWS {
            skews.clear();
        }
        skews.insert(key.clone(), skew);
    }
}

/// Maximum number of partitions whose clock skew is kept. When it is reached, all are discarded and measured again.
const MAX_SKEWS: usize = 10_000;
