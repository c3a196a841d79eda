//! Routing of commands to the nodes of a cluster. A single server is treated as a cluster that never redirects.
//!
//! The tables only grow by redirections and shrink by failures. A stale entry costs one redirection.

use std::{collections::HashMap, sync::Arc};

use redis::{Client, ConnectionAddr, ConnectionInfo, RedisError};

use super::{heard::OnPush, node::Node};

/// Nodes and slots learned from redirections.
///
/// At most one entry per slot, 16 384, and one node per address that was named. Neither is refreshed by a timer.
#[derive(Default)]
pub(super) struct Routes {
    /// Known nodes by address.
    nodes: HashMap<String, Arc<Node>>,
    /// Slots that a `MOVED` redirection has assigned.
    slots: HashMap<u16, ConnectionAddr>,
    /// Index of the configured node that serves slots without a known owner.
    seed: usize,
}

impl Routes {
    /// Returns the node that owns a slot, or a configured node that can redirect.
    ///
    /// # Errors
    ///
    /// The client's error, if the address cannot be used.
    ///
    /// # Panics
    ///
    /// Panics if `seeds` is empty, which `Connection` rules out.
    pub(super) fn node(
        &mut self,
        slot: u16,
        seeds: &[ConnectionInfo],
        on_push: Option<&OnPush>,
    ) -> Result<Arc<Node>, RedisError> {
        let seed = &seeds[self.seed % seeds.len()];
        let address = self.slots.get(&slot).unwrap_or(seed.addr()).clone();
        self.node_at(address, seed, on_push)
    }

    /// Returns the node at an address. Credentials and all other settings are those of `like`.
    ///
    /// # Errors
    ///
    /// The client's error, if the address cannot be used.
    pub(super) fn node_at(
        &mut self,
        address: ConnectionAddr,
        like: &ConnectionInfo,
        on_push: Option<&OnPush>,
    ) -> Result<Arc<Node>, RedisError> {
        let name = address.to_string();
        if let Some(node) = self.nodes.get(&name) {
            return Ok(Arc::clone(node));
        }
        // Nodes of a cluster share credentials and TLS settings.
        let client = Client::open(like.clone().set_addr(address))?;
        let node = Arc::new(Node::new(client, on_push.cloned()));
        self.nodes.insert(name, Arc::clone(&node));
        Ok(node)
    }

    /// Records the new owner of a slot.
    ///
    /// The old owner is not informed: other slots may still be there.
    pub(super) fn moved(&mut self, slot: u16, address: ConnectionAddr) {
        self.slots.insert(slot, address);
    }

    /// Forgets a failed node and its slots. If it was the current configured node, the next one takes its place.
    ///
    /// Commands in flight on that node end on their own. Its slots are learned again from the next node that redirects.
    pub(super) fn evict(&mut self, failed: &Node, seeds: &[ConnectionInfo]) {
        let address = failed.address();
        self.slots.retain(|_, known| known != address);
        if seeds[self.seed % seeds.len()].addr() == address {
            self.seed = (self.seed + 1) % seeds.len();
        }
        self.nodes.remove(&address.to_string());
    }
}

/// Returns the address in a redirection, such as `MOVED 3999 10.0.0.7:6379`. A redirection without a host means the
/// host of the node that sent it.
///
/// Returns `None` if the redirection cannot be parsed, or `by` is not a TCP address.
pub(super) fn redirected(error: &RedisError, by: &ConnectionAddr) -> Option<ConnectionAddr> {
    let (to, _) = error.redirect_node()?;
    let (host, port) = to.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut address = by.clone();
    match &mut address {
        ConnectionAddr::Tcp(old, old_port)
        | ConnectionAddr::TcpTls {
            host: old,
            port: old_port,
            ..
        } => {
            if !matches!(host, "" | "?") {
                host.clone_into(old);
            }
            *old_port = port;
            Some(address)
        }
        _ => None,
    }
}

/// Returns the hash slot of a key, as in the Redis Cluster specification: CRC-16 (XMODEM) of its hash tag, or of the
/// whole key if there is none, modulo 16384.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty());
    let sum = tag.unwrap_or(key).bytes().fold(0, |sum: u16, byte| {
        (0..8).fold(sum ^ (u16::from(byte) << 8), |sum, _| {
            let carried = sum & 0x8000 != 0;
            (sum << 1) ^ if carried { 0x1021 } else { 0 }
        })
    });
    sum % 16384
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    #[test]
    fn slots_match_the_specification() {
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!((slot("foo"), slot("bar")), (12182, 5061));
        assert_eq!(slot("{user1000}.following"), slot("user1000"));
        assert_eq!(slot("m2m:1:{foo}:token"), slot("foo"));
        assert_ne!(slot("{}.foo"), slot("{}.bar"));
    }

    #[test]
    fn a_redirection_without_a_host_keeps_the_host() {
        let by = ConnectionAddr::Tcp("a".to_owned(), 1);
        let redirected = |text: &str| {
            let value = parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
            redirected(&value.extract_error().unwrap_err(), &by)
        };
        let tcp = |host: &str, port| Some(ConnectionAddr::Tcp(host.to_owned(), port));

        assert_eq!(
            redirected("MOVED 3999 10.0.0.7:6379"),
            tcp("10.0.0.7", 6379)
        );
        assert_eq!(redirected("ASK 3999 [::1]:6379"), tcp("::1", 6379));
        assert_eq!(redirected("MOVED 3999 :6379"), tcp("a", 6379));
        assert_eq!(redirected("MOVED 3999 nowhere"), None);
        assert_eq!(redirected("ERR no"), None);
    }
}
