//! Resources: which of the server's named quotas count the requests of a route.
//!
//! Some servers have a quota for each part of their API, and each response names the one that has counted the request:
//! `x-ratelimit-resource: search`, or a policy `"api"` on some routes and `"resolvers"` on others. From these names the
//! layer learns which routes share a quota.
//!
//! | responses so far | partitions of a request |
//! |---|---|
//! | no names, or the same names on all routes | its partition only |
//! | two routes without a common name | its partition, and one for each name of its route |
//! | another process of the fleet has found such routes | the same |
//! | the same, and nothing of its own route yet | its partition, and one for each name of the routes that begin alike, or else for each known name |
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
    /// The same for all routes that begin alike, so that a new route is not counted by foreign quotas.
    prefixes: HashMap<RouteClass, Names>,
    /// Whether two routes have no name in common.
    divided: bool,
}

/// A set of names, one bit for each.
type Names = u64;

impl Resources {
    /// Records the names in the response to a request of a route, whose path begins as those of `prefix` do. Returns
    /// whether it divides the partition, or names a quota that was not known.
    pub(crate) fn observe(
        &self,
        partition: &PartitionKey,
        route: RouteClass,
        prefix: RouteClass,
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
        self.change(of_partition, |learned| {
            learned.observe(partition, route, prefix, info);
        })
    }

    /// Changes what is known of a partition. Returns whether it is divided now and was not before, or has new names.
    fn change(&self, learned: &mut Learned, change: impl FnOnce(&mut Learned)) -> bool {
        let (divided, known) = (learned.divided, learned.keys.len());
        change(learned);
        let is_new = learned.divided && !divided;
        if is_new {
            // Release pairs with the Acquire in `keys_for`.
            self.divided.fetch_add(1, Ordering::Release);
        }
        is_new || learned.keys.len() > known
    }

    /// Divides a partition, because another process has, into quotas with these names. Returns whether that was not known.
    ///
    /// All processes must use the same partitions. So if there is no room, what is known of one that is not divided is
    /// removed.
    pub(crate) fn divide(&self, partition: &PartitionKey, names: &[&str]) -> bool {
        let mut learned = lock(&self.learned);
        if learned.len() >= MAX_PARTITIONS && !learned.contains_key(partition) {
            let mut whole = learned.iter().filter(|(_, learned)| !learned.divided);
            let Some(whole) = whole.next().map(|(key, _)| key.clone()) else {
                return false;
            };
            learned.remove(&whole);
        }
        let of_partition = learned.entry(partition.clone()).or_default();
        self.change(of_partition, |learned| {
            for name in names {
                learned.bit(partition, name);
            }
            learned.divided = true;
        })
    }

    /// Returns the keys of all named quotas of a partition; none while it is not divided.
    pub(crate) fn all_keys(&self, partition: &PartitionKey) -> Vec<PartitionKey> {
        if self.divided.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let learned = lock(&self.learned);
        let learned = learned.get(partition).filter(|learned| learned.divided);
        learned
            .map(|learned| learned.keys.clone())
            .unwrap_or_default()
    }

    /// Returns the keys of the named quotas that count a request of this route; none while the partition is not
    /// divided. A route without responses is counted by those that count other routes with this prefix, or else by all.
    pub(crate) fn keys_for(
        &self,
        partition: &PartitionKey,
        route: RouteClass,
        prefix: RouteClass,
    ) -> Vec<PartitionKey> {
        if self.divided.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let learned = lock(&self.learned);
        let Some(learned) = learned.get(partition).filter(|learned| learned.divided) else {
            return Vec::new();
        };
        let known = learned.routes.get(&route);
        let known = known.or_else(|| learned.prefixes.get(&prefix));
        let names = known.copied().unwrap_or(Names::MAX);
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
    /// Records the names in a response.
    fn observe(
        &mut self,
        partition: &PartitionKey,
        route: RouteClass,
        prefix: RouteClass,
        info: &RateLimitInfo,
    ) {
        let mut named: Names = 0;
        for bit in names(info).filter_map(|name| self.bit(partition, name)) {
            named |= 1 << bit;
        }
        add(&mut self.prefixes, prefix, named);
        if let Some(names) = add(&mut self.routes, route, named) {
            self.divided |= self.routes.values().any(|other| other & names == 0);
        }
    }

    /// Returns the bit of a name. Adds the name if there is room.
    fn bit(&mut self, partition: &PartitionKey, name: &str) -> Option<usize> {
        let mut keys = self.keys.iter();
        let known = keys.position(|key| key.resource() == Some(name));
        known.or_else(|| {
            let has_room = self.keys.len() < MAX_NAMES;
            has_room.then(|| {
                self.keys.push(PartitionKey::for_resource(partition, name));
                self.keys.len() - 1
            })
        })
    }
}

/// Adds names to those of a route, if there is room for the route. Returns all of its names.
fn add(routes: &mut HashMap<RouteClass, Names>, route: RouteClass, named: Names) -> Option<Names> {
    if named == 0 || routes.len() >= MAX_ROUTES && !routes.contains_key(&route) {
        return None;
    }
    let names = routes.entry(route).or_default();
    *names |= named;
    Some(*names)
}

/// Returns the names of the quotas that a response describes, with what remains of them.
fn names(info: &RateLimitInfo) -> impl Iterator<Item = &str> {
    let limits = info.limits.iter().filter(|limit| limit.remaining.is_some());
    limits.filter_map(|limit| limit.name.as_deref())
}

/// Maximum number of names of a partition: the bits of [`Names`].
const MAX_NAMES: usize = Names::BITS as usize;
/// Maximum number of routes of a partition, and of prefixes. Further ones are treated like new routes.
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

    fn observe(resources: &Resources, api: &PartitionKey, path: &str, names: &[&str]) {
        let (route, prefix) = (RouteClass::of("GET", path), RouteClass::prefix(path));
        resources.observe(api, route, prefix, &named(names));
    }

    fn keys(resources: &Resources, api: &PartitionKey, path: &str) -> Vec<PartitionKey> {
        resources.keys_for(api, RouteClass::of("GET", path), RouteClass::prefix(path))
    }

    #[test]
    fn a_partition_is_divided_once_two_routes_have_no_name_in_common() {
        let (resources, api) = (Resources::default(), PartitionKey::new("api"));
        observe(&resources, &api, "/users", &["core"]);
        observe(&resources, &api, "/repos", &["core"]);
        assert_eq!(keys(&resources, &api, "/users"), []);

        observe(&resources, &api, "/search", &["search"]);

        assert_eq!(
            keys(&resources, &api, "/users"),
            [PartitionKey::new("api core")]
        );
        assert_eq!(
            keys(&resources, &api, "/search"),
            [PartitionKey::new("api search")]
        );
        assert_eq!(keys(&resources, &api, "/new").len(), 2);
        observe(&resources, &api, "/graphql", &["graphql"]);
        assert_eq!(keys(&resources, &api, "/new").len(), 3);
        assert_eq!(keys(&resources, &PartitionKey::new("other"), "/users"), []);
        assert_eq!(resources.forget(&api).len(), 3);
        assert_eq!(keys(&resources, &api, "/users"), []);
    }

    #[test]
    fn a_new_route_is_counted_like_those_that_begin_alike() {
        let (resources, api) = (Resources::default(), PartitionKey::new("api"));
        observe(&resources, &api, "/v1/repos/tower/commits", &["core"]);
        observe(&resources, &api, "/v1/search/code", &["search"]);

        assert_eq!(
            keys(&resources, &api, "/v1/repos/axum/issues"),
            [PartitionKey::new("api core")]
        );
        assert_eq!(keys(&resources, &api, "/v1/gists").len(), 2);
    }

    #[test]
    fn names_that_take_turns_on_a_route_all_count_it() {
        let (resources, api) = (Resources::default(), PartitionKey::new("api"));
        for name in ["burst", "daily", "burst"] {
            observe(&resources, &api, "/a", &[name]);
        }
        observe(&resources, &api, "/b", &["daily"]);
        assert_eq!(keys(&resources, &api, "/b"), []);
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
            observe(&resources, &api, &format!("/{word}"), &[&word]);
        }
        let learned = lock(&resources.learned);
        assert_eq!(learned[&api].keys.len(), MAX_NAMES);
        assert!(learned[&api].routes.len() <= MAX_ROUTES);
    }
}
