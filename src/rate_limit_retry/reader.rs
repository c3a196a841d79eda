//! Reads responses as the layer was told to, and remembers how far the servers' clocks are off.

use std::{collections::HashMap, time::SystemTime};

use http::{HeaderMap, StatusCode};

use super::{
    PartitionKey,
    headers::{Profile, Signals, Skew, may_speak, read, read_at},
};
use crate::sync::{Mutex, lock};

/// Written and read by every call whose response says something about limits; a reader may see an older skew than the
/// latest, which is as good.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    profile: Option<Box<dyn Profile>>,
    skews: Mutex<HashMap<PartitionKey, Skew>>,
}

impl Reader {
    pub(crate) fn new(profile: Option<Box<dyn Profile>>) -> Self {
        Self {
            profile,
            skews: Mutex::default(),
        }
    }

    pub(crate) fn has_profile(&self) -> bool {
        self.profile.is_some()
    }

    /// Forgets what responses of a partition have said about its server's clock.
    pub(crate) fn forget(&self, partition: &PartitionKey) {
        lock(&self.skews).remove(partition);
    }

    /// What a response to a request of these partitions says.
    ///
    /// A `Date` is rounded down to a second and may be old when it arrives. What all of them together tell about the
    /// server's clock is closer, and serves responses without one as well.
    pub(crate) fn read(
        &self,
        keys: &[PartitionKey],
        status: StatusCode,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Signals {
        let profile = self.profile.as_deref();
        if profile.is_none() && !may_speak(headers) {
            return read(status, headers, now);
        }
        let Some(key) = keys.first() else {
            return read_at(profile, status, headers, Skew::default().server_time(now));
        };
        let skew = {
            let mut skews = lock(&self.skews);
            let known = skews.get(key).copied().unwrap_or_default();
            let mut skew = known;
            skew.learn(headers, now);
            if skew != known {
                if skews.len() >= MOST_PARTITIONS {
                    skews.clear();
                }
                skews.insert(key.clone(), skew);
            }
            skew
        };
        read_at(profile, status, headers, skew.server_time(now))
    }
}

/// Beyond this many, all are learnt anew.
const MOST_PARTITIONS: usize = 10_000;
