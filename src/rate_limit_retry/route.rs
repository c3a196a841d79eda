//! Routes: which requests a 503 with `Retry-After` holds.
//!
//! Such a 503 often affects only a part of a server. Its route, a class of similar requests, becomes a partition of
//! its own that is held. Requests of that class then have this partition as an additional key; other requests of the
//! original partition are not held by it.
//!
//! # States of a class
//!
//! | state | from | until | requests of the class |
//! |---|---|---|---|
//! | not held | | a 503 with `Retry-After` | have the original partition only |
//! | held | the 503 | the end of the wait, or an accepted request | wait in the class's partition as well |
//! | recovering | the end of the wait | 60 s later | are admitted by slow start of the class's partition |
//!
//! Requests of the class that were sent after the rejected one may be in flight when the route is held. If one of them
//! is accepted, the server rejects single requests, and not the route: the route is released at once, and only the
//! rejected request waits as long as the server has requested.
//!
//! # Bounds
//!
//! At most 256 classes are held at once. While none is held, a request costs one atomic load. Entries whose time is
//! over are removed when a further class is held.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::PartitionKey;
use crate::{
    clock::add_capped,
    sync::{Mutex, lock},
};

/// Scope of the hold after a 503 with `Retry-After`.
///
/// # Examples
///
/// ```
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::UnavailableScope};
///
/// // All routes of this API depend on one database.
/// let layer = RateLimitRetryLayer::builder()
///     .unavailable_scope(UnavailableScope::Partition)
///     .build();
/// # drop(layer);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum UnavailableScope {
    /// Requests of the same route: reads, or writes, of paths with the same pattern, such as `/orders/17` and
    /// `/orders/18`. The default.
    ///
    /// The partition's other requests are sent one at a time until one is accepted. If a request of the route that was
    /// sent after the rejected one is accepted, the route is released, and only the rejected request waits.
    ///
    /// Segments with digits, and long ones, count as ids. If ids look like words, such as user names, each of them is a
    /// route of its own, and a hold affects fewer requests than it could.
    #[default]
    Route,
    /// All requests of the partition. For servers whose 503 always means that nothing works, such as a single process
    /// behind a proxy.
    Partition,
}

/// A class of requests: reads or writes of paths with one pattern. Segments that identify a resource, such as an id,
/// are not part of the pattern.
///
/// Fits in 32 bits, because each request in flight has one. The lowest bit is set for reads; the other bits are the
/// hash of the pattern.
///
/// Two patterns with the same hash share a hold, which delays requests but does no harm. The hash has no random seed:
/// it appears in partition names, which should be the same in all processes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct RouteClass(NonZeroU32);

impl RouteClass {
    /// All writes. Used for a write whose method and path are no longer known, because no copy of it is left.
    pub(crate) const WRITES: Self = Self::new(false, 1);

    /// Combines the kind and the hash of the pattern. The highest bit of the hash is discarded.
    const fn new(reads: bool, pattern: u32) -> Self {
        match NonZeroU32::new(pattern << 1 | reads as u32) {
            Some(class) => Self(class),
            None => Self(NonZeroU32::MIN),
        }
    }

    /// Returns whether the class contains reads.
    fn is_read(self) -> bool {
        self.0.get() & 1 == 1
    }

    /// Returns the class of a request. Query and fragment are ignored, and so are segments after the first
    /// [`MAX_SEGMENTS`].
    ///
    /// | request | class |
    /// |---|---|
    /// | `GET /v1/orders/17?full=1` | reads of `/v1/orders/*` |
    /// | `HEAD /v1/orders/18` | the same |
    /// | `DELETE /v1/orders/17` | writes of `/v1/orders/*` |
    pub(crate) fn of(method: &str, path: &str) -> Self {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        let mut pattern = FNV_OFFSET;
        let mut add = |byte: u8| pattern = (pattern ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        for segment in segments.take(MAX_SEGMENTS) {
            add(b'/');
            if is_static_segment(segment) {
                segment.bytes().for_each(&mut add);
            }
        }
        let reads = matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE");
        // The upper bits of the product depend on the complete input. Hash 1 is reserved for `WRITES`.
        Self::new(reads, ((pattern >> 33) as u32).max(2))
    }

    /// Returns the class of all requests, reads and writes, whose paths begin with the same segment. The version of an API
    /// and `api` are no such segments.
    pub(crate) fn prefix(path: &str) -> Self {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let first = segments.find(|segment| !is_version(segment) && *segment != "api");
        Self::of("GET", first.unwrap_or_default())
    }

    /// Returns the key of the partition that holds this class. Contains a hash, because paths must not appear in
    /// events: `https://api.example.com reads #3f2b8c1e`.
    fn key(self, partition: &PartitionKey) -> PartitionKey {
        let kind = if self.is_read() { "reads" } else { "writes" };
        let pattern = self.0.get() >> 1;
        PartitionKey::new(format!("{partition} {kind} #{pattern:08x}"))
    }
}

/// Returns whether a path segment is the same in all requests of its route: a version, or a word without digits.
fn is_static_segment(segment: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_' | b'.');
    is_version(segment) || segment.len() <= MAX_NAME_LEN && segment.bytes().all(is_part)
}

/// Returns whether a path segment is the version of an API: `v1`, `v20`.
fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| {
        !rest.is_empty() && rest.len() <= 3 && rest.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The held classes of requests, and the partitions that hold them.
///
/// Only the mapping is here; the holds themselves, and the requests that wait for them, are in the gate.
#[derive(Debug, Default)]
pub(crate) struct HeldRoutes {
    /// Number of entries in `held`. While it is 0, requests do not take the lock.
    count: AtomicUsize,
    /// Held classes by partition. Bounded by [`MAX_HELD_ROUTES`].
    held: Mutex<HashMap<(PartitionKey, RouteClass), HeldRoute>>,
}

/// A held class.
#[derive(Debug)]
struct HeldRoute {
    /// Key of the partition that holds the class.
    key: PartitionKey,
    /// End of the hold.
    until: Instant,
    /// The partition's number of the last rejected request.
    rejected: u64,
}

impl HeldRoutes {
    /// Records that a class of a partition's requests is held until `until`, because request `rejected` was rejected. A
    /// longer hold of the same class stays.
    ///
    /// Returns the key of the partition that holds the class; `None` if [`MAX_HELD_ROUTES`] classes are held already.
    pub(crate) fn hold(
        &self,
        partition: &PartitionKey,
        class: RouteClass,
        rejected: u64,
        until: Instant,
        now: Instant,
    ) -> Option<PartitionKey> {
        let mut held = lock(&self.held);
        // Removes expired entries first, so that they do not count against the maximum.
        held.retain(|_, route| add_capped(route.until, HOLD_GRACE) > now);
        let route = (partition.clone(), class);
        // An existing entry can always be extended.
        let key = if held.len() < MAX_HELD_ROUTES || held.contains_key(&route) {
            let new = || HeldRoute {
                key: class.key(partition),
                until,
                rejected,
            };
            let route = held.entry(route).or_insert_with(new);
            route.until = route.until.max(until);
            route.rejected = route.rejected.max(rejected);
            Some(route.key.clone())
        } else {
            None
        };
        // Written under the lock, so that the count never lags behind an earlier change. Release pairs with the
        // Acquire in `is_empty`.
        self.count.store(held.len(), Ordering::Release);
        key
    }

    /// Removes a held class, if the accepted request was sent after the rejected ones. Returns the key of the partition
    /// that held it.
    pub(crate) fn release(
        &self,
        partition: &PartitionKey,
        class: RouteClass,
        accepted: u64,
    ) -> Option<PartitionKey> {
        let mut held = lock(&self.held);
        let route = (partition.clone(), class);
        held.get(&route).filter(|held| held.rejected < accepted)?;
        let released = held.remove(&route)?;
        self.count.store(held.len(), Ordering::Release);
        Some(released.key)
    }

    /// Removes the held classes of a partition. Returns the keys of the partitions that held them.
    pub(crate) fn forget(&self, partition: &PartitionKey) -> Vec<PartitionKey> {
        let mut held = lock(&self.held);
        let of_partition = held.extract_if(|(of, _), _| of == partition);
        let keys = of_partition.map(|(_, route)| route.key).collect();
        self.count.store(held.len(), Ordering::Release);
        keys
    }

    /// Returns whether no class is held. Lock-free. May be stale: a request that reads `true` is treated like one that
    /// was in flight when the class was held.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Returns the keys of the partitions that hold this class of requests. Writes are also held by
    /// [`RouteClass::WRITES`].
    pub(crate) fn keys_for(
        &self,
        partition: &PartitionKey,
        class: RouteClass,
        now: Instant,
    ) -> Vec<PartitionKey> {
        let mut held = lock(&self.held);
        // Once none is left, requests need not look for one.
        held.retain(|_, route| add_capped(route.until, HOLD_GRACE) > now);
        self.count.store(held.len(), Ordering::Release);
        // A hold of all writes applies to each class of writes.
        let writes = (!class.is_read()).then_some(RouteClass::WRITES);
        let classes = [Some(class), writes.filter(|writes| *writes != class)];
        let routes = classes.into_iter().flatten();
        let routes = routes.filter_map(|class| held.get(&(partition.clone(), class)));
        routes.map(|route| route.key.clone()).collect()
    }
}

/// Offset basis of FNV-1a, 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
/// Prime of FNV-1a, 64 bits.
const FNV_PRIME: u64 = 0x0100_0000_01b3;
/// Maximum number of path segments in a pattern.
const MAX_SEGMENTS: usize = 8;
/// Maximum length of a word in a pattern, in bytes. Longer segments count as ids.
const MAX_NAME_LEN: usize = 32;
/// Maximum number of classes that a layer holds at once. Beyond it, the whole partition is held.
const MAX_HELD_ROUTES: usize = 256;
/// Grace period after a hold in which the class is still admitted through its own partition, which raises the rate
/// gradually.
const HOLD_GRACE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_class_is_reads_or_writes_of_one_pattern() {
        let reports = RouteClass::of("GET", "/v1/reports/17");
        for (method, path, same) in [
            ("GET", "/v1/reports/18", true),
            ("GET", "/v1/reports/18?page=2", true),
            (
                "HEAD",
                "/v1/reports/3f2b8c1e-aaaa-bbbb-cccc-1234567890ab/",
                true,
            ),
            ("POST", "/v1/reports/17", false),
            ("GET", "/v2/reports/17", false),
            ("GET", "/v1/orders/17", false),
            ("GET", "/v1/reports", false),
            ("GET", "/v1/reports/17/pages", false),
            ("GET", "/", false),
        ] {
            let class = RouteClass::of(method, path);
            assert_eq!(class == reports, same, "{method} {path}");
            assert_ne!(class, RouteClass::WRITES);
        }
    }

    #[test]
    fn a_path_of_any_length_has_a_route_class() {
        let long = "/a1".repeat(100_000);
        assert_eq!(
            RouteClass::of("GET", &long),
            RouteClass::of("GET", "/1/2/3/4/5/6/7/8/and/more")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn held_route_classes_expire_and_are_bounded() {
        #[expect(
            clippy::disallowed_methods,
            reason = "an arbitrary instant to count from"
        )]
        let now = Instant::now();
        let (routes, partition) = (HeldRoutes::default(), PartitionKey::new("api"));
        let until = add_capped(now, Duration::from_secs(10));
        assert!(routes.is_empty());
        let class = |n: usize| RouteClass::new(true, n as u32 + 2);
        let held = |n| routes.hold(&partition, class(n), 0, until, now).is_some();

        assert!((0..MAX_HELD_ROUTES).all(held));
        assert!(!held(MAX_HELD_ROUTES) && held(0));
        assert_eq!(routes.keys_for(&partition, class(1), now).len(), 1);
        assert!(
            routes
                .keys_for(&PartitionKey::new("other"), class(1), now)
                .is_empty()
        );

        let over = add_capped(until, HOLD_GRACE);
        assert!(routes.keys_for(&partition, class(1), over).is_empty());
        assert!(
            routes
                .hold(&partition, RouteClass::WRITES, 0, over, over)
                .is_some()
        );
        let write = RouteClass::of("POST", "/anything");
        assert_eq!(routes.keys_for(&partition, write, over).len(), 1);
        let read = RouteClass::of("GET", "/anything");
        assert!(routes.keys_for(&partition, read, over).is_empty());

        assert_eq!(routes.forget(&PartitionKey::new("other")).len(), 0);
        assert_eq!(routes.forget(&partition).len(), 1);
        assert!(routes.is_empty());
    }
}
