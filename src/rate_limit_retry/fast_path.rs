//! Fast path: requests to a partition that has never reported a limit skip the gate.
//!
//! Each shard caches the last partition that the gate admitted without counting. A request with the same scheme and
//! authority reads only that cache, and the shared flag ([`FastPathFlag`]) that the gate clears as soon as anything
//! about the partition's limits is known.
//! # Why it is correct
//!
//! A request on the fast path is not counted as in flight. That is safe only while nothing limits requests in flight:
//! the partition has no hold, no window, no estimate, no local limit and no waiters, and its last 1,000 responses had
//! no fields about limits. The first response that has such fields closes the flag, and is counted afterwards.
//!
//! # What disables it
//!
//! A deadline, a profile, a store, custom partitions or costs, for the whole layer; a local limit, a pause or any known
//! limit, for a partition. Requests that alternate between origins replace the cached partition each time, and mostly use the
//! gate.

use std::sync::Arc;

use http::{
    Uri,
    uri::{Authority, Scheme},
};

use super::{
    budget::Account,
    gate::{FastPathFlag, Gate, Keys},
    limiter::Call,
};
use crate::sync::Mutex;

/// The partition that requests of this thread used last.
///
/// One value per shard. The lock is only ever tried, never waited for.
#[derive(Debug, Default)]
pub(super) struct FastPath(Mutex<Option<Last>>);

/// The cached partition.
#[derive(Debug)]
struct Last {
    /// Scheme and authority of the URI that the keys were derived from.
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    /// Whether the keys contain the credential's name.
    names_credential: bool,
    /// The partition's keys. A separate allocation of this shard, so that threads do not share a reference count.
    keys: Keys,
    /// Retry-budget account of the keys.
    account: Account,
    /// Whether the partition is open. Shared with the gate, which writes it.
    flag: Arc<FastPathFlag>,
}

impl FastPath {
    /// Returns the keys and the account of the cached partition, if it matches `uri` and is open.
    ///
    /// The only state shared with other threads that this reads is whether the partition is open. The rest belongs to
    /// this shard. Costs a comparison of two short strings, one load, and one increment of a reference count.
    pub(super) fn cached_keys(&self, uri: &Uri, named: bool) -> Option<(Keys, Account)> {
        // Contended only if threads outnumber shards. The request then goes through the gate.
        let last = self.0.try_lock().ok()?;
        let last = last.as_ref()?;
        let open = last.matches(uri, named) && last.flag.get();
        open.then(|| (Arc::clone(&last.keys), last.account))
    }

    /// Caches the partition of a request that the gate admitted without counting it.
    ///
    /// Does nothing if the partition is not open, or if the lock is taken.
    #[cold]
    pub(super) fn cache(&self, gate: &Gate, uri: &Uri, named: bool, call: &Call) {
        let Some(flag) = gate.fast_path_flag(&call.keys) else {
            return;
        };
        // If the lock is taken, the next request of the shard tries again.
        if let Ok(mut last) = self.0.try_lock() {
            *last = Some(Last {
                scheme: uri.scheme().cloned(),
                authority: uri.authority().cloned(),
                names_credential: named,
                keys: Arc::clone(&call.keys),
                account: call.account,
                flag,
            });
        }
    }
}

impl Last {
    /// Returns whether the cached partition is that of `uri`.
    fn matches(&self, uri: &Uri, named: bool) -> bool {
        // Compares the spelling, which is cheaper than to normalize. Another spelling of the same origin uses the
        // gate.
        self.authority.as_ref().map(Authority::as_str) == uri.authority().map(Authority::as_str)
            && self.scheme.as_ref() == uri.scheme()
            && self.names_credential == named
    }
}
