//! The way past the gate, for requests of a partition of which nothing is known but that it takes what comes.

use std::sync::Arc;

use http::{
    Uri,
    uri::{Authority, Scheme},
};

use super::{
    budget::Account,
    gate::{Admission, Keys, Ticket},
    limiter::{Call, RequestHead, SharedLimiter},
};
use crate::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

/// Whether a partition is open: no hold, no known window, nothing learnt from refusals, nobody waits. Written by the
/// gate when that changes; on a cache line of its own, which every request reads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Openness(AtomicBool);

impl Openness {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, open: bool) {
        // A line that is only read stays with all who read it.
        if self.get() != open {
            self.0.store(open, Ordering::Release);
        }
    }
}

/// What a thread's requests have at hand: the limiter, and the partition that was used last.
#[derive(Debug)]
pub(crate) struct Passes {
    pub(crate) limiter: SharedLimiter,
    last: Mutex<Option<Pass>>,
}

#[derive(Debug)]
struct Pass {
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    /// Whether the keys name the credential.
    named: bool,
    /// With a reference count of its own.
    keys: Keys,
    account: Account,
    openness: Arc<Openness>,
}

impl Passes {
    pub(crate) fn new(limiter: SharedLimiter) -> Self {
        Self {
            limiter,
            last: Mutex::new(None),
        }
    }

    /// A call that begins past the gate, which is not asked, and with a free ticket.
    pub(crate) fn pass(&self, head: &RequestHead<'_>, named: bool) -> Option<Call> {
        let (keys, account) = self.open(head.uri, named)?;
        Some(self.limiter.call(keys, account, head))
    }

    /// A call that begins, and what the gate says, which is not asked where a call may have to wait for something else.
    pub(crate) fn admit(
        &self,
        head: &RequestHead<'_>,
        credential: Option<&str>,
    ) -> (Call, Option<Result<Ticket, Admission>>) {
        let limiter = &self.limiter;
        let now = limiter.now();
        let mut call = limiter.begin(head, credential, now);
        let admission = (!limiter.is_watched()).then(|| limiter.try_admit(&mut call, now));
        if let Some(Ok(ticket)) = &admission
            && ticket.is_free()
        {
            self.remember(head.uri, credential.is_some(), &call);
        }
        (call, admission)
    }

    /// The keys of the partition that was used last, if it is the one wanted and open.
    ///
    /// Of what other threads use, this reads whether the partition is open; the rest is this shard's own.
    fn open(&self, uri: &Uri, named: bool) -> Option<(Keys, Account)> {
        // Taken only where threads outnumber shards: nobody waits for it.
        let last = self.last.try_lock().ok()?;
        let pass = last.as_ref()?;
        let open = pass.is_for(uri, named) && pass.openness.get();
        open.then(|| (Arc::clone(&pass.keys), pass.account))
    }

    #[cold]
    fn remember(&self, uri: &Uri, named: bool, call: &Call) {
        let Some(openness) = self.limiter.gate.openness(&call.keys) else {
            return;
        };
        if let Ok(mut last) = self.last.try_lock() {
            *last = Some(Pass {
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

impl Pass {
    fn is_for(&self, uri: &Uri, named: bool) -> bool {
        self.authority.as_ref().map(Authority::as_str) == uri.authority().map(Authority::as_str)
            && self.scheme.as_ref() == uri.scheme()
            && self.named == named
    }
}
