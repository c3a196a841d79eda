//! What a quota store on Redis does when all is well.

use std::{pin::pin, time::Duration};

use http::StatusCode;
use tokio::time::timeout;
use tower_m2m::{
    rate_limit_retry::{FleetQuota, QuotaStore, RedisQuotaStore, StoredQuotas},
    store::CacheKey,
    test_util::{Api, ApiFault, Dialect, Quota},
};

use crate::{
    fleet::{Fleet, work},
    server::Server,
    world::keys,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn eight_processes_share_one_quota_with_little_overshoot() {
    let api = Api::builder()
        .quota(Quota::fixed_window(100, 2 * SECOND))
        .dialect(Dialect::Draft8)
        .latency(Duration::from_millis(20));
    let fleet = Fleet::new(api);
    // Patient, so that a busy machine is not taken for a store that fails.
    let quotas = || {
        let store = fleet.store().timeout(10 * SECOND);
        StoredQuotas::new("fleet", store).timeout(10 * SECOND)
    };
    let processes = (0..8).map(|_| fleet.process_with(quotas())).collect();

    work(processes, 4, 16).await;

    let seen = fleet.api.stats();
    assert_eq!(seen.ok, 512);
    assert!(seen.rate_limited <= 1, "{seen:?}");
}

#[tokio::test]
async fn a_429_in_one_process_holds_all_processes_of_that_name() {
    let fleet = Fleet::new(Api::builder());
    let (one, other) = (fleet.process(), fleet.process());
    let stranger = fleet.process_with(StoredQuotas::new("another", fleet.store()));
    for process in [&one, &other, &stranger] {
        process.ok().await;
    }
    // All have their agents, and these have subscribed.
    while !fleet.redis.channels().len().eq(&2) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fleet
        .api
        .next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 3));

    let refused = one.send();
    while other.take_events().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let sent = fleet.api.stats().requests;
    stranger.ok().await;
    let held = other.send();
    tokio::time::sleep(Duration::from_millis(200)).await;

    assert_eq!(fleet.api.stats().requests, sent + 1);
    assert!(!held.is_finished());
    for call in [refused, held] {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert!(stranger.take_events().is_empty());
}

#[tokio::test]
async fn an_exact_quota_is_never_exceeded() {
    let api = Api::builder().quota(Quota::sliding_window(50, 2 * SECOND));
    let fleet = Fleet::new(api);
    let exact = || {
        let quota = FleetQuota::per(50, 2 * SECOND);
        StoredQuotas::new("fleet", fleet.store()).fleet_quota(quota)
    };
    let processes = (0..8).map(|_| fleet.process_with(exact())).collect();

    work(processes, 2, 8).await;

    let seen = fleet.api.stats();
    assert_eq!((seen.ok, seen.rate_limited), (128, 0));
}

#[tokio::test]
async fn quota_keys_share_a_hash_tag_and_reveal_no_name() {
    let api = Api::builder()
        .quota(Quota::fixed_window(100, 60 * SECOND))
        .dialect(Dialect::Draft8);
    let fleet = Fleet::new(api);
    let exact = StoredQuotas::new("canary", fleet.store()).fleet_quota(FleetQuota::per_second(100));
    let process = fleet.process_with(exact);
    process.ok().await;
    while fleet.redis.keys().len() < 3 {
        process.ok().await;
    }

    let keys = fleet.redis.keys();

    let tag = |key: &str| key[key.find('{').unwrap()..=key.find('}').unwrap()].to_owned();
    for key in &keys {
        assert!(key.starts_with("m2m:1:{"), "{key}");
        assert!(!key.contains("api.test") && !key.contains("canary"));
        assert_eq!(tag(key), tag(&keys[0]));
        let left = fleet.redis.command(&[b"PTTL", key.as_bytes()]);
        assert!(!left.starts_with(b":-"), "{key}");
    }
}

#[tokio::test]
async fn unused_channels_are_unsubscribed() {
    let redis = Server::start();
    let store = RedisQuotaStore::new(redis.url(), keys()).unwrap();
    let quota = |name: &str| CacheKey::new("quota").field("name", name);
    let listens = async |name: &str| {
        let quota = quota(name);
        timeout(Duration::from_millis(50), store.changed(&quota)).await
    };
    let stays = quota("stays");
    let mut stays = pin!(store.changed(&stays));
    for name in ["a", "b", "c"] {
        assert!(listens(name).await.is_err());
    }
    assert!(
        timeout(Duration::from_millis(50), &mut stays)
            .await
            .is_err()
    );
    assert_eq!(redis.channels().len(), 4);

    while redis.channels().len() > 1 {
        assert!(
            timeout(Duration::from_millis(10), &mut stays)
                .await
                .is_err()
        );
    }
    // One that is listened to again is subscribed to again.
    assert!(listens("a").await.is_err());
    assert_eq!(redis.channels().len(), 2);
}

#[tokio::test]
async fn the_acl_in_the_guide_is_sufficient_for_quotas() {
    let fleet = Fleet::new(Api::builder());
    fleet.redis.create_user_of_the_guide("quotas");
    let url = fleet.redis.url_as("quotas", "password");
    let process = || {
        let store = RedisQuotaStore::new(&url, keys()).unwrap();
        let exact = FleetQuota::per_second(1000);
        fleet.process_with(StoredQuotas::new("fleet", store).fleet_quota(exact))
    };
    let (one, other) = (process(), process());
    for process in [&one, &other] {
        process.ok().await;
    }
    while fleet.redis.channels().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fleet
        .api
        .next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 3));

    one.ok().await;
    other.ok().await;

    assert_eq!(
        (one.take_events(), other.take_events()),
        (vec![], vec!["held".to_owned()])
    );
}

#[test]
fn debug_output_of_a_store_shows_no_password() {
    let url = Server::absent().url_as("user", "canary");
    let store = RedisQuotaStore::new(url, keys()).unwrap();
    assert!(!format!("{store:?}").contains("canary"));
}
