//! Three nodes of a cluster, which the test starts.

use std::{fs, path::PathBuf, time::Duration};

use tokio::time::{sleep, timeout};
use tower_m2m::{
    client_credentials::RedisTokenStore,
    rate_limit_retry::{RedisQuotaStore, StoredQuotas},
};

use crate::{server::Server, world::keys};

pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Server>,
    files: PathBuf,
}

impl Cluster {
    /// Three nodes, each with a third of the slots.
    pub(crate) async fn start() -> Self {
        let files = std::env::temp_dir().join(format!("tower-m2m-{:032x}", fastrand::u128(..)));
        fs::create_dir(&files).unwrap();
        let mut nodes = Vec::new();
        for (first, last) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")] {
            let mut node = Server::absent();
            let own = |what| format!("{what}-{}", node.port());
            node.arguments = [
                ("--dir", files.to_str().unwrap()),
                ("--cluster-enabled", "yes"),
                ("--cluster-config-file", &own("nodes")),
                ("--cluster-port", &Server::absent().port()),
                ("--cluster-require-full-coverage", "no"),
            ]
            .iter()
            .flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()])
            .collect();
            node.restart();
            node.command(&[
                b"CLUSTER",
                b"ADDSLOTSRANGE",
                first.as_bytes(),
                last.as_bytes(),
            ]);
            nodes.push(node);
        }
        for (epoch, node) in ["1", "2", "3"].iter().zip(&nodes) {
            node.command(&[b"CLUSTER", b"SET-CONFIG-EPOCH", epoch.as_bytes()]);
        }
        for node in &nodes[1..] {
            let bus = &node.arguments[7];
            let (host, port) = (&b"127.0.0.1"[..], node.port());
            nodes[0].command(&[b"CLUSTER", b"MEET", host, port.as_bytes(), bus.as_bytes()]);
        }
        let cluster = Self { nodes, files };
        cluster.wait_for_agreement().await;
        cluster
    }

    /// Waits until all nodes know each other, and who has which slots.
    async fn wait_for_agreement(&self) {
        let agree = async {
            for node in &self.nodes {
                while !info(node).contains("cluster_state:ok")
                    || !info(node).contains("cluster_slots_assigned:16384")
                {
                    sleep(Duration::from_millis(20)).await;
                }
            }
        };
        timeout(START_TIMEOUT, agree).await.unwrap();
    }

    fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    pub(crate) fn tokens(&self) -> RedisTokenStore {
        RedisTokenStore::cluster(self.urls(), keys()).unwrap()
    }

    /// With one node only to begin at.
    pub(crate) fn tokens_from(&self, node: usize) -> RedisTokenStore {
        RedisTokenStore::new(self.nodes[node % 3].url(), keys()).unwrap()
    }

    /// Patient, so that a busy machine is not taken for a server that fails.
    pub(crate) fn quotas(&self) -> StoredQuotas {
        self.quotas_within(START_TIMEOUT, START_TIMEOUT)
    }

    /// With limits for the whole answer, and for a node's.
    pub(crate) fn quotas_within(&self, answer: Duration, node: Duration) -> StoredQuotas {
        let store = RedisQuotaStore::cluster(self.urls(), keys()).unwrap();
        StoredQuotas::new("fleet", store.timeout(node)).timeout(answer)
    }

    /// The node that holds the one key that ends like this, and the key.
    pub(crate) fn holder(&self, end: &str) -> (usize, String) {
        let held = self.nodes.iter().enumerate().flat_map(|(index, node)| {
            let keys = node.keys().into_iter();
            keys.filter(|key| key.ends_with(end))
                .map(move |key| (index, key))
        });
        let held: Vec<_> = held.collect();
        let [one] = &held[..] else {
            panic!("{held:?}");
        };
        one.clone()
    }

    fn id(&self, node: usize) -> String {
        bulk(&self.nodes[node].command(&[b"CLUSTER", b"MYID"]))
    }

    fn slot(&self, key: &str) -> String {
        let slot = self.nodes[0].command(&[b"CLUSTER", b"KEYSLOT", key.as_bytes()]);
        let slot = String::from_utf8(slot).unwrap();
        slot.trim_start_matches(':').trim().to_owned()
    }

    /// As `redis-cli --cluster reshard` does it: from here on one node redirects with `ASK` what it does not have.
    pub(crate) fn begin_slot_migration(&self, key: &str, from: usize, to: usize) -> String {
        let slot = self.slot(key);
        let set = |node: usize, what: &[u8], other: usize| {
            let other = self.id(other);
            self.nodes[node].command(&[
                b"CLUSTER",
                b"SETSLOT",
                slot.as_bytes(),
                what,
                other.as_bytes(),
            ]);
        };
        set(to, b"IMPORTING", from);
        set(from, b"MIGRATING", to);
        slot
    }

    pub(crate) fn migrate_keys(&self, slot: &str, from: usize, to: usize) {
        let port = self.nodes[to].port();
        let keys = self.nodes[from].list(&[b"CLUSTER", b"GETKEYSINSLOT", slot.as_bytes(), b"100"]);
        let mut command: Vec<&[u8]> = vec![
            b"MIGRATE",
            b"127.0.0.1",
            port.as_bytes(),
            b"",
            b"0",
            b"5000",
            b"KEYS",
        ];
        command.extend(keys.iter().map(String::as_bytes));
        self.nodes[from].command(&command);
    }

    /// The node is stopped, and the slot of this key given to another, as when a replica takes its place.
    pub(crate) fn fail_over(&self, node: usize, key: &str) {
        let slot = self.slot(key);
        let (next, third) = ((node + 1) % 3, (node + 2) % 3);
        self.nodes[node].stop();
        self.end_slot_migration(&slot, next, &[next, third]);
    }

    /// From here on these nodes redirect with `MOVED`.
    pub(crate) fn end_slot_migration(&self, slot: &str, to: usize, nodes: &[usize]) {
        let id = self.id(to);
        for node in nodes {
            self.nodes[*node].command(&[
                b"CLUSTER",
                b"SETSLOT",
                slot.as_bytes(),
                b"NODE",
                id.as_bytes(),
            ]);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.clear();
        // Files that remain in the temporary directory are harmless.
        drop(fs::remove_dir_all(&self.files));
    }
}

fn info(node: &Server) -> String {
    bulk(&node.command(&[b"CLUSTER", b"INFO"]))
}

/// The text after its length.
fn bulk(answer: &[u8]) -> String {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    text.split_once("\r\n").unwrap().1.trim().to_owned()
}
