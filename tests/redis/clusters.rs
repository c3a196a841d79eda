//! What the stores share is on one node of a cluster, and is found when it moves to another.

use std::time::Duration;

use http::StatusCode;
use tokio::time::{sleep, timeout};
use tower_m2m::{
    client_credentials::{Lease, LeaseId, TokenStore},
    rate_limit_retry::{RedisQuotaStore, StoredQuotas},
    store::CacheKey,
    test_util::{Api, ApiBuilder, ApiFault, Dialect, Quota},
};

use crate::{
    cluster::{Cluster, START_TIMEOUT},
    fleet::{Fleet, Process, work},
    server::Server,
    world::{World, all_tokens, keys},
};

const MINUTE: Duration = Duration::from_secs(60);

fn announcing() -> ApiBuilder {
    Api::builder()
        .quota(Quota::fixed_window(100_000, 60 * MINUTE))
        .dialect(Dialect::Draft8)
}

#[tokio::test]
async fn a_cluster_keeps_one_token_for_many_processes() {
    let (world, cluster) = (World::with(Server::absent()), Cluster::start().await);
    let fleet: Vec<_> = (0..20)
        .map(|_| world.process_with(cluster.tokens()))
        .collect();

    let tokens = all_tokens(&fleet).await;

    assert!(tokens.iter().all(Result::is_ok));
    assert_eq!(world.token_requests(), 1);
    for process in &fleet {
        assert!(
            matches!(&process.take_events()[..], [one] if one == "fetched" || one == "adopted")
        );
    }
}

#[tokio::test]
async fn different_tokens_are_on_different_nodes() {
    let cluster = Cluster::start().await;
    let (store, other) = (cluster.tokens(), cluster.tokens());
    for number in 0..24 {
        let identity = CacheKey::new("test").field("number", [number]);
        let leases = [&store, &other].map(|s| s.lease(&identity, LeaseId::random(), MINUTE));
        let [first, second] = leases;

        assert_eq!(first.await.unwrap(), Lease::Held);
        assert_eq!(second.await.unwrap(), Lease::Busy);
    }

    let counts: Vec<_> = cluster.nodes.iter().map(|node| node.keys().len()).collect();

    assert_eq!(counts.iter().sum::<usize>(), 24);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[tokio::test]
async fn a_token_is_found_during_and_after_slot_migration() {
    let (world, cluster) = (World::with(Server::absent()), Cluster::start().await);
    let process = || world.process_with(cluster.tokens());
    let early = process();
    let token = early.token().await;
    let (from, key) = cluster.holder(":token");
    let to = (from + 1) % 3;

    let slot = cluster.begin_slot_migration(&key, from, to);
    assert_eq!(process().token().await, token);
    cluster.migrate_keys(&slot, from, to);
    assert_eq!(cluster.holder(":token").0, to);
    assert_eq!(process().token().await, token);
    let next = early.next_token().await;
    assert_ne!(next, token);
    cluster.end_slot_migration(&slot, to, &[to, from, 3 - from - to]);
    let late = process();
    assert_eq!(late.token().await, next);

    let last = early.next_token().await;
    assert_eq!(late.next_token().await, last);
    assert_eq!(world.token_requests(), 3);
    assert_eq!(early.take_events(), ["fetched", "fetched", "fetched"]);
    assert_eq!(late.take_events(), ["adopted", "adopted"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_shared_during_slot_migration() {
    let (fleet, cluster) = (
        Fleet::with(Server::absent(), announcing()),
        Cluster::start().await,
    );
    let processes: Vec<_> = (0..4)
        .map(|_| fleet.process_with(cluster.quotas()))
        .collect();
    let sending = work(processes, 2, 200);
    let moving = async {
        timeout(START_TIMEOUT, async {
            while cluster.nodes.iter().all(|node| node.keys().len() < 2) {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
        let (from, key) = cluster.holder(":windows");
        let to = (from + 1) % 3;
        let slot = cluster.begin_slot_migration(&key, from, to);
        sleep(Duration::from_millis(50)).await;
        cluster.migrate_keys(&slot, from, to);
        sleep(Duration::from_millis(50)).await;
        cluster.end_slot_migration(&slot, to, &[to, from, 3 - from - to]);
        to
    };

    let (processes, to) = tokio::join!(sending, moving);

    assert_eq!(cluster.holder(":windows").0, to);
    a_hold_reaches_all_processes(&fleet, &processes).await;
    assert_eq!(fleet.api.stats().rate_limited, 1);
}

/// Also asserts that no other event was emitted before.
async fn a_hold_reaches_all_processes(fleet: &Fleet, processes: &[Process]) {
    fleet
        .api
        .next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 1));
    processes[0].ok().await;
    for process in &processes[1..] {
        process.ok_until(&["held"]).await;
        assert_eq!(process.take_events(), ["held"]);
    }
    assert!(processes[0].take_events().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_429_is_published_on_every_node() {
    let (fleet, cluster) = (
        Fleet::with(Server::absent(), announcing()),
        Cluster::start().await,
    );
    let process = |node: usize| {
        let seed = [cluster.nodes[node].url()];
        let store = RedisQuotaStore::cluster(seed, keys()).unwrap();
        fleet.process_with(StoredQuotas::new("fleet", store))
    };
    let processes: Vec<_> = (0..3).map(process).collect();
    let listening = async {
        for process in &processes {
            process.ok().await;
        }
        let listeners = || {
            cluster
                .nodes
                .iter()
                .filter(|node| !node.channels().is_empty())
        };
        while listeners().count() < 3 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(START_TIMEOUT, listening).await.unwrap();

    a_hold_reaches_all_processes(&fleet, &processes).await;
}

#[tokio::test]
async fn a_killed_node_affects_only_its_own_tokens() {
    let (world, mut cluster) = (World::with(Server::absent()), Cluster::start().await);
    let [one, other] = [(); 2].map(|()| world.process_with(cluster.tokens()));
    assert_eq!(one.token().await, other.token().await);
    let (node, _) = cluster.holder(":token");
    one.take_events();
    other.take_events();

    cluster.nodes[node].kill();
    for process in [&one, &other] {
        process.next_token().await;
        assert_eq!(process.take_events(), [UNREACHABLE, "fetched"]);
    }
    assert_eq!(world.token_requests(), 3);
    let mut found = 0;
    let store = cluster.tokens();
    for number in 0..24 {
        let identity = CacheKey::new("test").field("number", [number]);
        let lease = store.lease(&identity, LeaseId::random(), MINUTE).await;
        found += usize::from(lease.is_ok());
    }
    assert!((8..24).contains(&found), "{found}");

    cluster.nodes[node].restart();
    let recovered = async {
        while one.take_events().iter().all(|events| events != "recovered") {
            one.next_token().await;
        }
    };
    timeout(START_TIMEOUT, recovered).await.unwrap();
    let shared = one.next_token().await;
    assert_eq!(other.next_token().await, shared);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_fall_back_when_their_node_is_killed_and_are_shared_again_afterwards() {
    let (fleet, mut cluster) = (
        Fleet::with(Server::absent(), announcing()),
        Cluster::start().await,
    );
    let processes = [(); 2].map(|()| fleet.process_with(cluster.quotas()));
    let node = shared_by(&processes, &cluster).await;

    cluster.nodes[node].kill();
    for process in &processes {
        process.ok_until(&[UNREACHABLE]).await;
    }
    cluster.nodes[node].restart();

    for process in &processes {
        process.ok_until(&["recovered"]).await;
        assert_eq!(process.take_events(), [UNREACHABLE, "recovered"]);
    }
    shared_by(&processes, &cluster).await;
    a_hold_reaches_all_processes(&fleet, &processes).await;
}

#[tokio::test]
async fn an_unresponsive_node_is_replaced_by_the_new_slot_owner() {
    let (world, cluster) = (World::with(Server::absent()), Cluster::start().await);
    let process = world.process_with(cluster.tokens());
    process.token().await;
    let (node, key) = cluster.holder(":token");
    process.take_events();

    cluster.fail_over(node, &key);
    process.next_token().await;
    let shared = process.next_token().await;

    let events = [
        "the store did not respond within 250ms",
        "fetched",
        "recovered",
        "fetched",
    ];
    assert_eq!(process.take_events(), events);
    assert_eq!(
        world
            .process_with(cluster.tokens_from(node + 1))
            .token()
            .await,
        shared
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_leave_an_unresponsive_node() {
    let (fleet, cluster) = (
        Fleet::with(Server::absent(), announcing()),
        Cluster::start().await,
    );
    // Calls stop waiting when the node is given up.
    let quotas = || cluster.quotas_within(Duration::from_millis(500), Duration::from_secs(1));
    let processes = [(); 2].map(|()| fleet.process_with(quotas()));
    let node = shared_by(&processes, &cluster).await;
    let (_, key) = cluster.holder(":windows");

    cluster.fail_over(node, &key);

    for process in &processes {
        process.ok_until(&["recovered"]).await;
        let events = ["the store did not respond within 500ms", "recovered"];
        assert_eq!(process.take_events(), events);
    }
    a_hold_reaches_all_processes(&fleet, &processes).await;
}

/// Sends until the quota is in the store, and returns the node that has it.
async fn shared_by(processes: &[Process], cluster: &Cluster) -> usize {
    let has_it = |node: &Server| node.keys().iter().any(|key| key.ends_with(":windows"));
    let sending = async {
        loop {
            for process in processes {
                process.ok().await;
            }
            if let Some(node) = cluster.nodes.iter().position(has_it) {
                return node;
            }
        }
    };
    timeout(START_TIMEOUT, sending).await.unwrap()
}

const UNREACHABLE: &str = "the store cannot be reached, or the connection broke";
