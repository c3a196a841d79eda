//! One token request for all.

use http::StatusCode;
use tokio::time::{Instant, sleep};
use tower_m2m::{ClientAuth, test_util::Fault};

use crate::world::{LEASE, SECOND, World, all_send, all_succeed};

#[tokio::test(start_paused = true)]
async fn fifty_processes_that_start_cold_cost_one_token_request() {
    let world = World::new();
    let fleet = world.fleet(50);
    let began = Instant::now();

    all_succeed(&fleet).await;

    assert_eq!(world.token_requests(), 1);
    assert!(began.elapsed() < 2 * SECOND, "{:?}", began.elapsed());
    let events: Vec<_> = fleet
        .iter()
        .flat_map(|process| process.take_events())
        .collect();
    let count = |name| events.iter().filter(|events| *events == name).count();
    assert_eq!((count("fetched"), count("adopted")), (1, 49));
}

#[tokio::test(start_paused = true)]
async fn a_later_process_uses_the_stored_token() {
    let world = World::new();
    all_succeed(&world.fleet(1)).await;
    sleep(100 * SECOND).await;

    let late = world.process();
    all_succeed(std::slice::from_ref(&late)).await;

    assert_eq!(world.token_requests(), 1);
    // Its life began with the request for it.
    assert!(late.handle.status().expires_in() <= Some(200 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn each_refresh_is_done_by_one_process_without_waiting() {
    let world = World::new();
    let fleet = world.fleet(20);
    all_succeed(&fleet).await;
    let began = Instant::now();

    for _ in 0..3000 {
        sleep(SECOND / 2).await;
        let sent = Instant::now();
        all_succeed(&fleet).await;
        assert_eq!(sent.elapsed().as_millis(), 0);
    }

    // Renewed 30 s to 45 s before each end of 300 s.
    let most = 1 + began.elapsed().as_secs() / 250;
    assert!(world.token_requests() <= most, "{}", world.token_requests());
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_lease_delays_others_only_until_it_expires() {
    let world = World::new();
    let dead = world.process();
    let handle = dead.handle.clone();
    let warming = tokio::spawn(async move { handle.prefetch().await });
    sleep(SECOND / 2).await;
    assert_eq!(world.token_requests(), 1);
    // Its task is dropped, and the store is not notified.
    dead.handle.shutdown().await;
    assert!(warming.await.unwrap().is_err());
    let began = Instant::now();

    let fleet = world.fleet(50);
    all_succeed(&fleet).await;

    assert_eq!(world.token_requests(), 2);
    assert!(
        began.elapsed() < LEASE + 2 * SECOND,
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_while_the_issuer_is_slow() {
    let world = World::new();
    world.issuer.next(Fault::Delay(2 * LEASE));
    let fleet = world.fleet(20);

    all_succeed(&fleet).await;

    assert_eq!(world.token_requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_401_in_one_process_replaces_the_token_for_all_once() {
    let world = World::new();
    let fleet = world.fleet(50);
    all_succeed(&fleet).await;
    sleep(20 * SECOND).await;
    world.issuer.revoke_all();

    all_succeed(&fleet[..1]).await;
    assert_eq!(world.token_requests(), 2);
    all_succeed(&fleet).await;
    all_succeed(&world.fleet(1)).await;

    assert_eq!(world.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_always_says_401_costs_the_fleet_one_token_request_per_cooldown() {
    let world = World::new();
    let endpoint = || world.endpoint(ClientAuth::basic("id", "secret"));
    let fleet: Vec<_> = (0..50)
        .map(|_| world.process_at(endpoint(), |_| false))
        .collect();
    let began = Instant::now();

    while began.elapsed() < 200 * SECOND {
        for sent in all_send(&fleet).await {
            assert_eq!(sent, Ok(StatusCode::UNAUTHORIZED));
        }
        sleep(SECOND).await;
    }

    // Cold, then after 0 s, 20 s, 60 s and 140 s, as for a single process.
    let alone = 5;
    let requests = world.token_requests();
    assert!((3..=alone).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn the_cooldown_applies_to_processes_without_a_401() {
    let world = World::new();
    let endpoint = || world.endpoint(ClientAuth::basic("id", "secret"));
    let always = world.process_at(endpoint(), |_| false);
    let other = world.process_at(endpoint(), |_| false);
    other.handle.prefetch().await.unwrap();
    always.handle.prefetch().await.unwrap();
    assert_eq!(always.send().await, Ok(StatusCode::UNAUTHORIZED));
    assert_eq!(world.token_requests(), 2);
    // It loads the other's token, which is rejected as well, and requests no third.
    assert_eq!(other.send().await, Ok(StatusCode::UNAUTHORIZED));
    let third = world.process_at(endpoint(), |_| false);
    assert_eq!(third.send().await, Ok(StatusCode::UNAUTHORIZED));

    assert_eq!(world.token_requests(), 2);
    assert_eq!(third.take_events(), ["adopted", "held back"]);
}

#[tokio::test(start_paused = true)]
async fn the_shared_cooldown_of_an_origin_keeps_no_other_origin_from_a_new_token() {
    let world = World::new();
    let endpoint = world.endpoint(ClientAuth::basic("id", "secret"));
    let always = world.process_at(endpoint, |_| false);
    assert_eq!(always.send().await, Ok(StatusCode::UNAUTHORIZED));
    assert_eq!(world.token_requests(), 2);
    let other = world.process();
    other.handle.prefetch().await.unwrap();
    world.issuer.revoke_all();

    assert_eq!(other.send_elsewhere().await, Ok(StatusCode::OK));

    assert_eq!(world.token_requests(), 3);
    assert_eq!(other.take_events(), ["adopted", "fetched"]);
}

#[tokio::test(start_paused = true)]
async fn refresh_now_fetches_a_new_token_for_all_processes() {
    let world = World::new();
    let fleet = world.fleet(3);
    all_succeed(&fleet).await;

    let token = fleet[0].handle.refresh_now().await.unwrap();

    assert_eq!(world.token_requests(), 2);
    let late = world.process();
    assert_eq!(late.handle.token().await.unwrap().expose(), token.expose());
    assert_eq!(world.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_token_is_not_reused_from_the_store() {
    let world = World::new();
    let process = world.process();
    let dropped = process.handle.token().await.unwrap();

    process.handle.invalidate();
    let next = process.handle.token().await.unwrap();

    assert_ne!(next.expose(), dropped.expose());
    assert_eq!(world.token_requests(), 2);
}
