//! A store that fails costs each process one token request, and an issuer that fails affects only its own credential.

use http::StatusCode;
use tokio::time::{Instant, sleep};
use tower_m2m::{store::StoreError, test_util::Fault};

use crate::world::{SECOND, World, all_send, all_succeed};

#[tokio::test(start_paused = true)]
async fn without_a_store_each_process_requests_one_token() {
    for slow in [false, true] {
        let world = World::new();
        if slow {
            world.store.set_latency(60 * SECOND);
        } else {
            let down = StoreError::unavailable("is down");
            world.store.fail_with(Some(down));
        }
        let fleet = world.fleet(8);
        let began = Instant::now();

        all_succeed(&fleet).await;
        assert!(began.elapsed() <= 2 * SECOND, "{:?}", began.elapsed());
        for _ in 0..600 {
            sleep(SECOND).await;
            all_succeed(&fleet).await;
        }

        // One at the start, one 30 s to 45 s before each of two ends.
        assert_eq!(world.token_requests(), 8 * 3);
        for process in &fleet {
            let expected = match slow {
                true => "the store did not respond within 500ms",
                false => "the store is down",
            };
            let events = process.take_events();
            assert_eq!(events, [expected, "fetched", "fetched", "fetched"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_outage_fails_no_request_and_the_store_is_used_again() {
    let world = World::new();
    let fleet = world.fleet(8);
    all_succeed(&fleet).await;
    fleet.iter().for_each(|process| drop(process.take_events()));
    world.store.clear();
    world
        .store
        .fail_with(Some(StoreError::unavailable("is down")));
    for _ in 0..300 {
        sleep(SECOND).await;
        all_succeed(&fleet).await;
    }
    assert_eq!(world.token_requests(), 1 + 8);

    world.store.fail_with(None);
    for _ in 0..300 {
        sleep(SECOND).await;
        all_succeed(&fleet).await;
    }

    assert_eq!(world.token_requests(), 1 + 8 + 1);
    let events: Vec<_> = fleet.iter().map(|process| process.take_events()).collect();
    for events in &events {
        let [failed, fetched, recovered, last] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(
            [failed, fetched, recovered],
            ["the store is down", "fetched", "store recovered"]
        );
        assert!(["adopted", "fetched"].contains(&last.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_failure_during_a_fetch_is_harmless() {
    let world = World::new();
    let fleet = world.fleet(8);
    let sending = tokio::spawn(async move { (all_send(&fleet).await, fleet) });
    sleep(SECOND / 2).await;
    assert_eq!(world.token_requests(), 1);

    world
        .store
        .fail_with(Some(StoreError::unavailable("is down")));

    let (sent, _) = sending.await.unwrap();
    assert!(sent.iter().all(|sent| *sent == Ok(StatusCode::OK)));
    assert_eq!(world.token_requests(), 8);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_entry_counts_as_absent() {
    let world = World::new();
    let garbage = StoreError::unreadable("holds garbage");
    world.store.fail_with(Some(garbage));
    let process = world.process();

    all_succeed(std::slice::from_ref(&process)).await;

    assert_eq!(
        process.take_events(),
        ["the store holds garbage", "fetched"]
    );
}

#[tokio::test(start_paused = true)]
async fn issuer_failures_do_not_serialize_the_processes() {
    let world = World::new();
    world
        .issuer
        .always(Some(Fault::status(StatusCode::BAD_REQUEST)));
    let fleet = world.fleet(50);
    let began = Instant::now();

    assert!(all_send(&fleet).await.iter().all(|sent| sent.is_err()));
    assert!(began.elapsed() < 3 * SECOND, "{:?}", began.elapsed());
    assert_eq!(world.token_requests(), 50);
    world.issuer.always(None);
    sleep(60 * SECOND).await;
    all_succeed(&fleet).await;

    assert_eq!(world.token_requests(), 51);
}
