//! Maximum numbers: of connections, in all and for each peer, and of requests, in all and for each tenant.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;

/// What the process can serve concurrently.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Capacity {
    pub(crate) connections: usize,
    pub(crate) connections_per_peer: usize,
    pub(crate) requests: usize,
    pub(crate) requests_per_tenant: usize,
}

impl Capacity {
    /// The configured numbers, lowered to what the process's descriptors allow.
    pub(crate) fn new(config: &Config) -> Self {
        let capacity = Self::within(config, descriptors());
        if capacity.connections < config.max_connections || capacity.requests < config.max_requests
        {
            tracing::warn!(
                max_connections = capacity.connections,
                max_connections_per_peer = capacity.connections_per_peer,
                max_requests = capacity.requests,
                "limits lowered: the process may not open enough file descriptors; raise the limit (ulimit -n, \
                 LimitNOFILE)",
            );
        }
        capacity
    }

    /// A caller's connection and a connection to an upstream need one descriptor each; some are left to the operators'
    /// listener and to issuers.
    fn within(config: &Config, descriptors: Option<u64>) -> Self {
        let mut capacity = Self {
            connections: config.max_connections,
            connections_per_peer: config.max_connections_per_peer,
            requests: config.max_requests,
            requests_per_tenant: config.max_requests_per_tenant,
        };
        let Some(descriptors) = descriptors.and_then(|count| usize::try_from(count).ok()) else {
            return capacity;
        };
        let reserved = RESERVED + config.tenants.len();
        let each = (descriptors.saturating_sub(reserved) / 2).max(8);
        capacity.requests = capacity.requests.min(each);
        if each < capacity.connections {
            capacity.connections = each;
            // One peer does not take them all.
            capacity.connections_per_peer = capacity.connections_per_peer.min(each / 2);
        }
        capacity
    }
}

/// Number of descriptors that are neither for callers nor for upstreams.
const RESERVED: usize = 24 + OPERATORS;

/// Maximum number of connections to the operators' listener.
pub(crate) const OPERATORS: usize = 32;

/// How many descriptors the process may open; `None` if there is no limit, or none is known.
fn descriptors() -> Option<u64> {
    #[cfg(unix)]
    {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    }
    #[cfg(not(unix))]
    None
}

/// Raises the number of descriptors that the process may open to what the system allows it.
pub fn raise_descriptor_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            limit.current = limit.maximum;
            if let Err(error) = setrlimit(Resource::Nofile, limit) {
                tracing::info!(%error, "file descriptor limit not raised");
            }
        }
    }
}

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    total: usize,
    per_peer: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// Why a connection was closed immediately.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LimitReached {
    Total,
    Peer,
}

/// A place among the open connections, until it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    limit: Arc<ConnectionLimit>,
    peer: IpAddr,
}

impl ConnectionLimit {
    pub(crate) fn new(total: usize, per_peer: usize) -> Arc<Self> {
        let open = Mutex::default();
        Arc::new(Self {
            total,
            per_peer,
            open,
        })
    }

    pub(crate) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<ConnectionPermit, LimitReached> {
        let peer = peer(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = open.by_peer.get(&peer).copied().unwrap_or_default();
        if of_peer >= self.per_peer {
            return Err(LimitReached::Peer);
        }
        if open.total >= self.total {
            return Err(LimitReached::Total);
        }
        open.total += 1;
        open.by_peer.insert(peer, of_peer + 1);
        Ok(ConnectionPermit {
            limit: Arc::clone(self),
            peer,
        })
    }

    pub(crate) fn open(&self) -> usize {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let open = self.limit.open.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(count) = open.by_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.by_peer.remove(&self.peer);
            }
        }
    }
}

/// Whose connection it is: an IPv4 address, or the first half of an IPv6 address, which one host has to itself.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// The requests of all tenants, or of one.
#[derive(Clone, Debug)]
pub(crate) struct RequestLimit {
    all: Arc<Semaphore>,
    tenant: Arc<Semaphore>,
}

/// A place among the requests, until it is dropped.
#[derive(Debug)]
pub(crate) struct RequestPermit {
    _all: OwnedSemaphorePermit,
    _tenant: OwnedSemaphorePermit,
}

impl RequestLimit {
    /// The first tenant's.
    pub(crate) fn new(capacity: Capacity) -> Self {
        Self {
            all: semaphore(capacity.requests),
            tenant: semaphore(capacity.requests_per_tenant),
        }
    }

    /// Another tenant's: the requests in all are counted together.
    pub(crate) fn another(&self, capacity: Capacity) -> Self {
        Self {
            all: Arc::clone(&self.all),
            tenant: semaphore(capacity.requests_per_tenant),
        }
    }

    /// `None` if there are too many.
    pub(crate) fn admit(&self) -> Option<RequestPermit> {
        Some(RequestPermit {
            _tenant: Arc::clone(&self.tenant).try_acquire_owned().ok()?,
            _all: Arc::clone(&self.all).try_acquire_owned().ok()?,
        })
    }
}

fn semaphore(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_limited_per_peer_and_in_total() {
        let limit = ConnectionLimit::new(3, 2);
        let [one, other, third] =
            [[192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]].map(IpAddr::from);

        let first = limit.admit(one).unwrap();
        let second = limit.admit(one).unwrap();
        assert_eq!(limit.admit(one).unwrap_err(), LimitReached::Peer);
        let _of_another = limit.admit(other).unwrap();
        assert_eq!(limit.admit(third).unwrap_err(), LimitReached::Total);
        drop(first);

        assert_eq!(limit.open(), 2);
        assert!(limit.admit(third).is_ok());
        drop(second);
        assert!(limit.admit(one).is_ok());
        assert_eq!(limit.open.lock().unwrap().by_peer.len(), 1);
    }

    #[test]
    fn ipv6_addresses_of_one_prefix_count_as_one_peer() {
        let of = |text: &str| peer(text.parse().unwrap());

        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[test]
    fn few_descriptors_lower_the_limits() {
        let tenants =
            "[tenants.a]\nupstream = \"https://a.example\"\ncaller_keys = [\"0123456789abcdef\"]";
        let config = Config::parse(tenants).unwrap();

        let capacity = Capacity::within(&config, Some(157));

        assert_eq!((capacity.connections, capacity.requests), (50, 50));
        assert_eq!(capacity.connections_per_peer, 25);
        let plenty = Capacity::within(&config, Some(1_000_000));
        assert_eq!(plenty, Capacity::within(&config, None));
        assert_eq!(plenty.connections, config.max_connections);
        // Still some.
        assert_eq!(Capacity::within(&config, Some(10)).connections, 8);
    }
}
