//! Fast path: requests to a partition that has never reported a limit skip the gate.

use std::sync::Arc;

use http::{
    Uri,
    uri::{Authority, Scheme},
};

use super::{
    budget::Account,
    gate::{Gate, Keys, Openness},
    limiter::Call,
};
use crate::sync::Mutex;

/// The partition that this thread's requests used last.
#[derive(Debug, Default)]
pub(super) struct FastPath(Mutex<Option<Last>>);

#[derive(Debug)]
struct Last {
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    /// Whether the keys name the credential.
    named: bool,
    /// With a reference count of its own.
    keys: Keys,
    account: Account,
    openness: Arc<Openness>,
}

impl FastPath {
    /// The keys of the partition that was used last, if it is the one wanted and open.
    ///
    /// Of what other threads use, this reads whether the partition is open; the rest is this shard's own.
    pub(super) fn open(&self, uri: &Uri, named: bool) -> Option<(Keys, Account)> {
        // Contended only where threads outnumber shards: then the gate is asked.
        let last = self.0.try_lock().ok()?;
        let last = last.as_ref()?;
        let open = last.is_for(uri, named) && last.openness.get();
        open.then(|| (Arc::clone(&last.keys), last.account))
    }

    /// The gate has let a request to this partition pass uncounted.
    #[cold]
    pub(super) fn remember(&self, gate: &Gate, uri: &Uri, named: bool, call: &Call) {
        let Some(openness) = gate.openness(&call.keys) else {
            return;
        };
        if let Ok(mut last) = self.0.try_lock() {
            *last = Some(Last {
                scheme: uri.scheme().cloned(),
                authority: uri.authority().cloned(),
                named,
                keys: Arc::clone(&call.keys),
                account: call.account,
                openness,
            });
        }
    }
}

impl Last {
    fn is_for(&self, uri: &Uri, named: bool) -> bool {
        self.authority.as_ref().map(Authority::as_str) == uri.authority().map(Authority::as_str)
            && self.scheme.as_ref() == uri.scheme()
            && self.named == named
    }
}
