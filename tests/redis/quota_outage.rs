//! A Redis that fails, in every way: requests continue with what their process knows, and the failure is reported once.

use std::time::Duration;

use tower_m2m::{
    rate_limit_retry::{FleetQuota, StoredQuotas},
    test_util::{Api, ApiBuilder, Dialect, Quota},
};

use crate::{
    fleet::{Fleet, Process},
    server::Server,
};

const UNREACHABLE: &str = "the store cannot be reached, or the connection broke";

fn api() -> ApiBuilder {
    Api::builder()
        .quota(Quota::fixed_window(100_000, Duration::from_secs(3600)))
        .dialect(Dialect::Draft8)
}

/// One process that shares what it knows, and one that keeps an exact quota.
fn both(fleet: &Fleet) -> [Process; 2] {
    let exact = FleetQuota::per_second(10_000);
    [
        fleet.process(),
        fleet.process_with(StoredQuotas::new("exact", fleet.store()).fleet_quota(exact)),
    ]
}

/// Requests succeed, the failing store is reported once, and again after `repair`.
async fn fails_and_recovers(redis: Server, events: &[&str], repair: impl FnOnce(&mut Server)) {
    let mut fleet = Fleet::with(redis, api());
    let processes = both(&fleet);

    for process in &processes {
        for _ in 0..20 {
            process.ok().await;
        }
        process.ok_until(events).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for process in &processes {
        process.ok().await;
        let said = process.take_events();
        assert!(said.len() == 1 && events.contains(&&*said[0]), "{said:?}");
    }

    repair(&mut fleet.redis);
    for process in &processes {
        process.ok_until(&["recovered"]).await;
        assert_eq!(process.take_events(), ["recovered"]);
    }
    assert_eq!(fleet.api.stats().rate_limited, 0);
}

#[tokio::test]
async fn quotas_work_when_redis_is_down_at_startup() {
    fails_and_recovers(Server::absent(), &[UNREACHABLE], Server::restart).await;
}

#[tokio::test]
async fn quotas_work_when_redis_does_not_respond() {
    let redis = Server::start();
    redis.stop();
    let events = &["the store did not respond within 100ms"];
    fails_and_recovers(redis, events, |redis| redis.resume()).await;
}

#[tokio::test]
async fn quotas_work_with_a_wrong_password() {
    let redis = Server::start_with(&["--requirepass", "other"]);
    let events = &[
        "the store rejected the user and password",
        "the store did not accept HELLO 3: user and password are missing, or it is older than Redis 6",
    ];
    fails_and_recovers(redis, events, |redis| {
        redis.kill();
        redis.arguments.clear();
        redis.restart();
    })
    .await;
}

#[tokio::test]
async fn quotas_work_when_redis_is_out_of_memory() {
    let redis = Server::start_with(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]);
    fails_and_recovers(redis, &["the store is out of memory"], |redis| {
        redis.command(&[b"CONFIG", b"SET", b"maxmemory", b"0"]);
    })
    .await;
}

#[tokio::test]
async fn quotas_work_when_redis_is_read_only() {
    let redis = Server::start_with(&["--replicaof", "127.0.0.1", "1"]);
    let events = &["the store is a replica, and cannot be written to"];
    fails_and_recovers(redis, events, |redis| {
        redis.command(&[b"REPLICAOF", b"NO", b"ONE"]);
    })
    .await;
}

#[tokio::test]
async fn quotas_work_when_redis_is_killed_and_restarts_empty() {
    let mut fleet = Fleet::new(api());
    let processes = both(&fleet);
    for process in &processes {
        while fleet.redis.keys().is_empty() {
            process.ok().await;
        }
        process.ok().await;
        assert!(process.take_events().is_empty());
    }

    fleet.redis.kill();
    for process in &processes {
        process.ok_until(&[UNREACHABLE]).await;
        assert_eq!(process.take_events(), [UNREACHABLE]);
    }
    fleet.redis.restart();

    for process in &processes {
        process.ok_until(&["recovered"]).await;
        assert_eq!(process.take_events(), ["recovered"]);
    }
}

#[tokio::test]
async fn foreign_values_under_quota_keys_are_reported_and_overwritten() {
    let garbage: [(&str, &[&[u8]]); 8] = [
        (":windows", &[b"SET", b"KEY", b"garbage"]),
        (":windows", &[b"HSET", b"KEY", b"format", b"latest"]),
        (":windows", &[b"HSET", b"KEY", b"hold", b"long"]),
        (":windows", &[b"HSET", b"KEY", b"windows", b"[{"]),
        (":windows", &[b"HSET", b"KEY", b"windows", b"{\"a\": 1}"]),
        (":windows", &[b"RPUSH", b"KEY", b"a list"]),
        (":processes", &[b"SET", b"KEY", b"garbage"]),
        (":gcra", &[b"SET", b"KEY", b"garbage"]),
    ];
    for (end, command) in garbage {
        let fleet = Fleet::new(api());
        // Patient, so that a busy machine is not taken for a store that does not respond.
        let store = fleet.store().timeout(Duration::from_secs(10));
        let quotas = StoredQuotas::new("exact", store).timeout(Duration::from_secs(10));
        let process = fleet.process_with(quotas.fleet_quota(FleetQuota::per_second(10_000)));
        process.ok().await;
        while fleet.redis.keys().len() < 3 {
            process.ok().await;
        }
        let key = fleet.redis.key(end);
        let set = |part: &[u8]| match part {
            b"KEY" => key.clone().into_bytes(),
            other => other.to_vec(),
        };
        let command: Vec<_> = command.iter().map(|part| set(part)).collect();
        let command: Vec<_> = command.iter().map(Vec::as_slice).collect();
        if command[0] == b"RPUSH" {
            fleet.redis.command(&[b"DEL", key.as_bytes()]);
        }
        fleet.redis.command(&command);

        let events = "the store contains a value under a key of this crate that is not a quota in this format";
        process.ok_until(&["recovered"]).await;

        assert_eq!(process.take_events(), [events, "recovered"], "{end}");
    }
}
