//! Fast path: requests that skip the gate's lock.
//!
//! Each shard caches the partitions that its requests use. A request with the same scheme and authority reads only that
//! cache, and one of two things that the gate writes when something changes:
//!
//! | partition | what is read | request |
//! |---|---|---|
//! | has never reported a limit | the shared flag ([`FastPathFlag`]), which the gate clears as soon as anything about the partition's limits is known | not counted |
//! | much of its announced quota remains | the terms of credits ([`ThreadCredits`]), which the gate ends when anything else limits requests | counted by the shard |
//!
//! # Why it is correct
//!
//! A request to an open partition is not counted as in flight. That is safe only while nothing limits requests in
//! flight: the partition has no hold, no window, no estimate, no local limit and no waiters, and its last 1,000
//! responses had no fields about limits. The first response that has such fields closes the flag, and is counted
//! afterwards. For requests on credit, see `gate::credits`.
//!
//! # What disables it
//!
//! A deadline, a profile, a store, custom partitions or costs, for the whole layer; a local limit, a pause or a hold,
//! for a partition. Even pacing and a held route end credits. A shard caches at most [`MAX_ENTRIES`] partitions. Two
//! that have the same slot replace each other, and their requests use the gate.

use std::sync::Arc;

use http::{
    Uri,
    uri::{Authority, Scheme},
};

use super::{
    budget::Account,
    gate::{FastPathFlag, Gate, Keys, Permit, ThreadCredits},
    limiter::Call,
};
use crate::sync::Mutex;

/// The partitions that requests of this thread use.
///
/// One value per shard. The lock is only ever tried, never waited for.
#[derive(Debug, Default)]
pub(super) struct FastPath(Mutex<Entries>);

/// A table with one slot for each hash. Empty at first, and enlarged when two partitions have the same slot.
#[derive(Debug, Default)]
struct Entries(Vec<Option<Entry>>);

/// A cached partition.
#[derive(Debug)]
struct Entry {
    /// Scheme and authority of the URI that the keys were derived from.
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    /// Whether the keys contain the credential's name.
    names_credential: bool,
    /// The partition's keys. A separate allocation of this shard, so that threads do not share a reference count.
    keys: Keys,
    /// Retry-budget account of the keys.
    account: Account,
    /// What admits requests.
    access: Access,
}

/// How requests skip the gate.
#[derive(Debug)]
enum Access {
    /// While this flag is set. Shared with the gate, which writes it.
    Open(Arc<FastPathFlag>),
    /// On credit.
    Credits(Arc<ThreadCredits>),
}

impl FastPath {
    /// Admits a request to a cached partition. Returns its keys, the account, and the permit.
    ///
    /// The only state shared with other threads that this reads is what the gate writes when something changes. The
    /// rest belongs to this shard. Costs a comparison of two short strings, a few loads, and one or two increments of
    /// reference counts.
    ///
    /// `on_credit`: whether requests may be sent on credit.
    pub(super) fn admit(
        &self,
        uri: &Uri,
        named: bool,
        on_credit: bool,
    ) -> Option<(Keys, Account, Permit)> {
        // Contended only if threads outnumber shards. The request then goes through the gate.
        let entries = self.0.try_lock().ok()?;
        let entry = entries.find(uri, named)?;
        let permit = match &entry.access {
            Access::Open(flag) => flag.get().then(Permit::uncounted)?,
            Access::Credits(credits) if on_credit => Permit::on_credit(credits.take()?),
            Access::Credits(_) => return None,
        };
        Some((Arc::clone(&entry.keys), entry.account, permit))
    }

    /// Caches the partition of a request that the gate has admitted, if later requests may skip the gate.
    ///
    /// Does nothing if the lock is taken: the next request of the shard tries again.
    #[cold]
    pub(super) fn cache(
        &self,
        gate: &Gate,
        uri: &Uri,
        named: bool,
        call: &Call,
        permit: &mut Permit,
    ) {
        let known = || match &self.0.try_lock().ok()?.find(uri, named)?.access {
            // Those of a partition that was removed do not apply again.
            Access::Credits(credits) if credits.are_open() => Some(Arc::clone(credits)),
            Access::Credits(_) | Access::Open(_) => None,
        };
        let access = if permit.is_uncounted() {
            gate.fast_path_flag(&call.keys).map(Access::Open)
        } else if let Some(credits) = known() {
            credits.renew();
            permit.set_credits(credits);
            return;
        } else {
            gate.add_thread(&call.keys).map(|credits| {
                credits.renew();
                permit.set_credits(Arc::clone(&credits));
                Access::Credits(credits)
            })
        };
        let Some(access) = access else {
            return;
        };
        let entry = Entry {
            scheme: uri.scheme().cloned(),
            authority: uri.authority().cloned(),
            names_credential: named,
            keys: Arc::clone(&call.keys),
            account: call.account,
            access,
        };
        // The former entry is dropped after the lock is released.
        let _former = match self.0.try_lock() {
            Ok(mut entries) => entries.insert(entry),
            Err(_) => Some(entry),
        };
    }
}

impl Entries {
    /// Returns the entry of the partition of `uri`.
    fn find(&self, uri: &Uri, named: bool) -> Option<&Entry> {
        let slot = self.slot(uri.scheme(), uri.authority(), named);
        let entry = self.0.get(slot)?.as_ref()?;
        entry
            .matches(uri.scheme(), uri.authority(), named)
            .then_some(entry)
    }

    /// Inserts an entry. Returns the one that it replaces.
    fn insert(&mut self, entry: Entry) -> Option<Entry> {
        if self.0.is_empty() {
            self.0.resize_with(1, || None);
        }
        while self.is_taken_by_another(&entry) && self.0.len() < MAX_ENTRIES {
            let entries = std::mem::take(&mut self.0);
            self.0.resize_with(2 * entries.len(), || None);
            for entry in entries.into_iter().flatten() {
                // Entries of different slots stay in different slots.
                let slot = self.slot_of(&entry);
                self.0[slot] = Some(entry);
            }
        }
        let slot = self.slot_of(&entry);
        self.0[slot].replace(entry)
    }

    /// Returns whether another partition has the slot of this one.
    fn is_taken_by_another(&self, entry: &Entry) -> bool {
        let other = self.0.get(self.slot_of(entry)).and_then(Option::as_ref);
        let (scheme, authority) = (entry.scheme.as_ref(), entry.authority.as_ref());
        other.is_some_and(|other| !other.matches(scheme, authority, entry.names_credential))
    }

    /// Returns the slot of an entry.
    fn slot_of(&self, entry: &Entry) -> usize {
        self.slot(
            entry.scheme.as_ref(),
            entry.authority.as_ref(),
            entry.names_credential,
        )
    }

    /// Returns the slot of a scheme and an authority.
    fn slot(&self, scheme: Option<&Scheme>, authority: Option<&Authority>, named: bool) -> usize {
        if self.0.len() <= 1 {
            return 0;
        }
        let scheme = scheme.map_or("", Scheme::as_str).bytes();
        let authority = authority.map_or("", Authority::as_str).bytes();
        let bytes = scheme.chain(authority).chain([u8::from(named)]);
        // FNV-1a. Which origins a program calls is its own choice, so that no attacker can choose them.
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The length is a power of two.
        usize::try_from(hash >> 32).unwrap_or_default() & (self.0.len() - 1)
    }
}

impl Entry {
    /// Returns whether the cached partition is that of this scheme and authority.
    fn matches(&self, scheme: Option<&Scheme>, authority: Option<&Authority>, named: bool) -> bool {
        // Compares the text, which is cheaper than to normalize it. Another spelling of the same origin has an entry
        // of its own.
        self.authority.as_ref().map(Authority::as_str) == authority.map(Authority::as_str)
            && self.scheme.as_ref() == scheme
            && self.names_credential == named
    }
}

/// Maximum number of partitions that a shard caches: a power of two.
const MAX_ENTRIES: usize = 256;
