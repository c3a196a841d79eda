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
//! A store, custom partitions or costs, for the whole layer; a local limit, a pause or a hold,
//! for a partition. Even pacing and a held route end credits. A shard caches at most [`MAX_ENTRIES`] partitions. Further
//! ones replace others, and their requests use the gate.

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

/// A hash table with linear probing. Empty at first, and enlarged when the slots of a partition are all taken.
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
        let (scheme, authority) = (uri.scheme(), uri.authority());
        let mut entries = self
            .slots(scheme, authority, named)
            .filter_map(|slot| self.0.get(slot)?.as_ref());
        entries.find(|entry| entry.matches(scheme, authority, named))
    }

    /// Inserts an entry. Returns the one that it replaces.
    fn insert(&mut self, entry: Entry) -> Option<Entry> {
        if self.0.is_empty() {
            self.0.resize_with(1, || None);
        }
        let slot = loop {
            if let Some(slot) = self.slot_for(&entry) {
                break slot;
            }
            if self.0.len() >= MAX_ENTRIES {
                // Its slots are all taken: the first is replaced.
                let (scheme, authority) = (entry.scheme.as_ref(), entry.authority.as_ref());
                break self
                    .slots(scheme, authority, entry.names_credential)
                    .next()?;
            }
            self.grow();
        };
        self.0.get_mut(slot)?.replace(entry)
    }

    /// Doubles the table.
    fn grow(&mut self) {
        let entries = std::mem::take(&mut self.0);
        self.0.resize_with(2 * entries.len(), || None);
        for entry in entries.into_iter().flatten() {
            // One without a slot is left out: its next request is cached again.
            if let Some(slot) = self.slot_for(&entry) {
                self.0[slot] = Some(entry);
            }
        }
    }

    /// Returns the slot that the partition of this entry has, or else a free one.
    fn slot_for(&self, entry: &Entry) -> Option<usize> {
        let (scheme, authority) = (entry.scheme.as_ref(), entry.authority.as_ref());
        let named = entry.names_credential;
        let is_own = |slot: &usize| {
            let other = self.0.get(*slot).and_then(Option::as_ref);
            other.is_some_and(|other| other.matches(scheme, authority, named))
        };
        let is_free = |slot: &usize| self.0.get(*slot).is_some_and(Option::is_none);
        let mut slots = self.slots(scheme, authority, named);
        slots.clone().find(is_own).or_else(|| slots.find(is_free))
    }

    /// Returns the slots of a scheme and an authority: a few in a row, from the one that the hash selects.
    fn slots(
        &self,
        scheme: Option<&Scheme>,
        authority: Option<&Authority>,
        named: bool,
    ) -> impl Iterator<Item = usize> + Clone + use<> {
        let first = self.first_slot(scheme, authority, named);
        let last = self.0.len().saturating_sub(1);
        // The length is a power of two.
        (0..self.0.len().min(MAX_PROBES)).map(move |step| (first + step) & last)
    }

    /// Returns the first slot of a scheme and an authority.
    fn first_slot(
        &self,
        scheme: Option<&Scheme>,
        authority: Option<&Authority>,
        named: bool,
    ) -> usize {
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
/// Number of slots of a partition.
const MAX_PROBES: usize = 8;

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use super::*;
    use crate::rate_limit_retry::PartitionKey;

    fn entry(uri: &Uri, named: bool) -> Entry {
        let keys = Keys::from([PartitionKey::for_origin(uri, named.then_some("orders"))]);
        Entry {
            scheme: uri.scheme().cloned(),
            authority: uri.authority().cloned(),
            names_credential: named,
            account: Account::of(&keys),
            keys,
            access: Access::Open(Arc::default()),
        }
    }

    /// The URIs of `many` origins.
    fn uris(many: usize) -> Vec<Uri> {
        let uri = |n| format!("https://api-{n}.example/").parse().unwrap();
        (0..many).map(uri).collect()
    }

    #[test]
    fn a_hundred_partitions_have_room_beside_each_other() {
        let (mut entries, uris) = (Entries::default(), uris(100));
        for uri in &uris {
            assert!(entries.insert(entry(uri, false)).is_none());
        }

        for uri in &uris {
            let found = entries.find(uri, false).expect("a cached partition");
            assert_eq!(found.keys[0], PartitionKey::for_origin(uri, None));
        }
    }

    #[test]
    fn the_number_of_partitions_is_bounded() {
        let mut entries = Entries::default();
        for uri in &uris(10 * MAX_ENTRIES) {
            drop(entries.insert(entry(uri, false)));
            // The last one is always found.
            assert!(entries.find(uri, false).is_some());
        }

        assert_eq!(entries.0.len(), MAX_ENTRIES);
    }

    #[test]
    fn the_scheme_the_spelling_and_the_credential_matter() {
        let mut entries = Entries::default();
        let uri: Uri = "https://api.example/".parse().unwrap();
        drop(entries.insert(entry(&uri, false)));

        assert!(entries.find(&uri, true).is_none());
        for other in [
            "http://api.example/",
            "https://API.example/",
            "/",
            "https://api.example:444/",
        ] {
            assert!(
                entries.find(&other.parse().unwrap(), false).is_none(),
                "{other}"
            );
        }
        // The same partition has one entry.
        assert!(entries.insert(entry(&uri, false)).is_some());
    }
}
