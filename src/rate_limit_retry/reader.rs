//! Reads responses as the layer was told to, and remembers how far the servers' clocks are off.

use std::{collections::HashMap, time::SystemTime};

use http::{HeaderMap, StatusCode, header::DATE};

use super::{
    PartitionKey,
    headers::{Profile, Signals, Skew, read, read_with},
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

    /// What a response to a request of these partitions says.
    pub(crate) fn read(
        &self,
        keys: &[PartitionKey],
        status: StatusCode,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Signals {
        let signals = self.signals(status, headers, now);
        let Some(key) = keys.first().filter(|_| !signals.is_empty()) else {
            return signals;
        };
        let mut skews = lock(&self.skews);
        let learnt = skews.get(key).copied().unwrap_or_default();
        let mut skew = learnt;
        skew.learn(headers, now);
        if skew != learnt {
            if skews.len() >= MOST_PARTITIONS {
                skews.clear();
            }
            skews.insert(key.clone(), skew);
        }
        drop(skews);
        if headers.contains_key(DATE) || skew == Skew::default() {
            return signals;
        }
        self.signals(status, headers, skew.server_time(now))
    }

    fn signals(&self, status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Signals {
        match &self.profile {
            Some(profile) => read_with(&**profile, status, headers, now),
            None => read(status, headers, now),
        }
    }
}

/// Beyond this many, all are learnt anew.
const MOST_PARTITIONS: usize = 10_000;
