//! Resources: which of the server's named quotas count the requests of a route.
//!
//! Some servers have a quota for each part of their API, and each response names the one that has counted the request:
//! `x-ratelimit-resource: search`, or a policy `"api"` on some routes and `"resolvers"` on others. From these names the
//! layer learns which routes share a quota.
//!
//! | responses so far | partitions of a request |
//! |---|---|
//! | no names, or each two routes have a name in common | its own partition only |
//! | two routes have no name in common | its own, and one for each name of its route |
//! | the same, and no name on its own route yet | its own, and one for each known name |
//!
//! So an exhausted quota holds the routes that it counts and no others. A response without names, such as a 429 without
//! limits, applies to the whole partition.
//!
//! # Bounds
//!
//! At most [`MAX_PARTITIONS`] partitions are kept, with at most [`MAX_NAMES`] names and [`MAX_ROUTES`] routes each.
//! While no partition is divided, a request costs one atomic load, and a response with the same names as the last one
//! costs one atomic swap.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use super::{PartitionKey, headers::RateLimitInfo, route::RouteClass};
use crate::sync::{Mutex, lock};

/// The named quotas of all partitions, and the routes that they count.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    /// Number of partitions that are divided. While it is 0, requests do not take the lock.
    divided: AtomicUsize,
    /// Hash of the partition, the route and the names of the last response. An equal response changes nothing.
    last: AtomicU64,
    /// The named quotas of each partition.
    learned: Mutex<HashMap<PartitionKey, Learned>>,
}

/// The named quotas of one partition, and the routes that they count.
#[derive(Debug, Default)]
struct Learned {
    /// The keys of the named quotas. The position is the bit in [`Names`].
    keys: Vec<PartitionKey>,
    /// The names in the responses of each route.
    routes: HashMap<RouteClass, Names>,
    /// Whether two routes have no name in common.
    divided: bool,
}

/// A set of names, one bit for each.
type Names = u16;

impl Resources {
    /// Records the names in the response to a request of a route. Returns whether the partition is divided because of
    /// it.
    pub(crate) fn observe(
        &self,
        partition: &PartitionKey,
        route: RouteClass,
        info: &RateLimitInfo,
    ) -> bool {
        let mut names = names(info).peekable();
        if names.peek().is_none() {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        (partition, route).hash(&mut hasher);
        names.for_each(|name| name.hash(&mut hasher));
        let hash = hasher.finish();
        // Relaxed: the hash only saves repeated work.
        if self.last.swap(hash, Ordering::Relaxed) == hash {
            return false;
        }
        let mut learned = lock(&self.learned);
        if learned.len() >= MAX_PARTITIONS && !learned.contains_key(partition) {
            return false;
        }
        let of_partition = learned.entry(partition.clone()).or_default();
        let divides = of_partition.observe(partition, route, info);
        if divides {
            // Release pairs with the Acquire in `keys_for`.
            self.divided.fetch_add(1, Ordering::Release);
        }
        divides
    }

    /// Returns the keys of the named quotas that count a request of this route; none while the partition is not
    /// divided. A route without names is assumed to be counted by all.
    pub(crate) fn keys_for(
        &self,
        partition: &PartitionKey,
        route: RouteClass,
    ) -> Vec<PartitionKey> {
        if self.divided.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let learned = lock(&self.learned);
        let Some(learned) = learned.get(partition).filter(|learned| learned.divided) else {
            return Vec::new();
        };
        let names = learned.routes.get(&route).copied().unwrap_or(Names::MAX);
        let keys = learned.keys.iter().enumerate();
        let counting = keys.filter(|(bit, _)| names >> bit & 1 == 1);
        counting.map(|(_, key)| key.clone()).collect()
    }

    /// Removes what is known of a partition. Returns the keys of its named quotas.
    pub(crate) fn forget(&self, partition: &PartitionKey) -> Vec<PartitionKey> {
        let forgotten = lock(&self.learned).remove(partition);
        self.last.store(0, Ordering::Relaxed);
        let Some(forgotten) = forgotten else {
            return Vec::new();
        };
        if forgotten.divided {
            self.divided.fetch_sub(1, Ordering::Release);
        }
        forgotten.keys
    }
}

impl Learned {
    /// Records the names in a response. Returns whether the partition is divided because of it.
    fn observe(
        &mut self,
        partition: &PartitionKey,
        route: RouteClass,
        info: &RateLimitInfo,
    ) -> bool {
        let mut named: Names = 0;
        for name in names(info) {
            let known = self
                .keys
                .iter()
                .position(|key| key.resource() == Some(name));
            let bit = match known {
                Some(bit) => bit,
                None if self.keys.len() < MAX_NAMES => {
                    self.keys.push(PartitionKey::for_resource(partition, name));
                    self.keys.len() - 1
                }
                None => continue,
            };
            named |= 1 << bit;
        }
        if named == 0 || self.routes.len() >= MAX_ROUTES && !self.routes.contains_key(&route) {
            return false;
        }
        let names = self.routes.entry(route).or_default();
        *names |= named;
        let names = *names;
        let disjoint = self.routes.values().any(|other| other & names == 0);
        let divides = disjoint && !self.divided;
        self.divided |= disjoint;
        divides
    }
}

/// Returns the names of the quotas for which a response announces what remains.
fn names(info: &RateLimitInfo) -> impl Iterator<Item = &str> {
    let limits = info.limits.iter().filter(|limit| limit.remaining.is_some());
    limits.filter_map(|limit| limit.name.as_deref())
}

/// Maximum number of names of a partition: the bits of [`Names`].
const MAX_NAMES: usize = Names::BITS as usize;
/// Maximum number of routes of a partition. Further routes are assumed to be counted by all quotas.
const MAX_ROUTES: usize = 256;
/// Maximum number of partitions. Further ones are not divided.
const MAX_PARTITIONS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit_retry::headers::Limit;

    fn named(names: &[&str]) -> RateLimitInfo {
        let limit = |name: &&str| Limit {
            name: Some((*name).to_owned()),
            remaining: Some(1),
            ..Limit::default()
        };
        RateLimitInfo {
            limits: names.iter().map(limit).collect(),
            ..RateLimitInfo::default()
        }
    }

    fn route(path: &str) -> RouteClass {
        RouteClass::of("GET", path)
    }

    #[test]
    fn a_partition_is_divided_once_two_routes_have_no_name_in_common() {
        let (resources, api) = (Resources::default(), PartitionKey::new("api"));
        let keys = |path| resources.keys_for(&api, route(path));
        assert!(!resources.observe(&api, route("/users"), &named(&["core"])));
        assert!(!resources.observe(&api, route("/repos"), &named(&["core"])));
        assert_eq!(keys("/users"), []);

        assert!(resources.observe(&api, route("/search"), &named(&["search"])));

        assert_eq!(keys("/users"), [PartitionKey::new("api core")]);
        assert_eq!(keys("/search"), [PartitionKey::new("api search")]);
        assert_eq!(keys("/new").len(), 2);
        assert!(!resources.observe(&api, route("/graphql"), &named(&["graphql"])));
        assert_eq!(keys("/new").len(), 3);
        assert_eq!(
            resources.keys_for(&PartitionKey::new("other"), route("/users")),
            []
        );
        assert_eq!(resources.forget(&api).len(), 3);
        assert_eq!(keys("/users"), []);
    }

    #[test]
    fn names_that_take_turns_on_a_route_all_count_it() {
        let (resources, api) = (Resources::default(), PartitionKey::new("api"));
        for name in ["burst", "daily", "burst"] {
            assert!(!resources.observe(&api, route("/a"), &named(&[name])));
        }
        assert!(!resources.observe(&api, route("/b"), &named(&["daily"])));
        assert_eq!(resources.keys_for(&api, route("/b")), []);
    }

    #[test]
    fn names_and_routes_are_bounded() {
        let (resources, api) = (Resources::default(), PartitionKey::new("api"));
        for number in 0..10_000 {
            // Letters only: digits would make all of them one route.
            let word: String = format!("{number}")
                .chars()
                .map(|digit| (digit as u8 + 49) as char)
                .collect();
            resources.observe(&api, route(&format!("/{word}")), &named(&[&word]));
        }
        let learned = lock(&resources.learned);
        assert_eq!(learned[&api].keys.len(), MAX_NAMES);
        assert!(learned[&api].routes.len() <= MAX_ROUTES);
    }
}
