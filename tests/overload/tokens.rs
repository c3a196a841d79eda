//! Many callers wait for one token.

use std::sync::{Arc, Mutex, atomic::Ordering::SeqCst};

use http::StatusCode;
use serde_json::json;
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::client_credentials::{Config, TokenError, TokenErrorKind};

use super::{
    MANY, Polls, bytes_per_waiter, paused,
    support::{HOUR, SECOND, Source, api, get, layer, origin, send, serving, spawn, status_only},
};

#[tokio::test(start_paused = true)]
async fn a_full_token_queue_fails_immediately_and_names_credential_and_remedy() {
    let source = Source::with_lifetime(HOUR).with_delay(SECOND);
    let layer = layer(&source).name("orders").max_waiting(3).build();
    let service = layer.layer(api(&source).0);
    let start = Instant::now();
    let waiting = [0; 3].map(|_| spawn(&service, get("/")));
    yield_now().await;

    let error = send(&service, get("/")).await.unwrap_err();

    assert_eq!(start.elapsed().as_millis(), 0);
    let error = error.downcast_ref::<TokenError>().unwrap();
    assert_eq!(error.kind(), TokenErrorKind::QueueFull);
    assert!(error.is_transient());
    assert_eq!(
        error.to_string(),
        "token request for credential \"orders\" already has 3 waiting callers; send fewer requests at once, or raise \
         `max_waiting`"
    );
    for caller in waiting {
        assert_eq!(caller.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert_eq!(source.fetches(), 1);
}

#[tokio::test]
async fn max_waiting_can_be_configured() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", deaf.local_addr().unwrap());
    let config = |limit: u32| {
        let keys = json!({"client_id": "id", "client_secret": "secret", "token_url": url, "max_waiting": limit});
        serde_json::from_value::<Config>(keys)
            .unwrap()
            .layer_for(origin())
    };
    let tokens = config(1).unwrap().build().handle();
    let waits = tokio::spawn({
        let tokens = tokens.clone();
        async move { tokens.prefetch().await }
    });
    yield_now().await;

    let error = tokens.token().await.unwrap_err();

    assert_eq!(error.kind(), TokenErrorKind::QueueFull);
    waits.abort();
    let error = config(0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "max_waiting is 0: no caller could wait for a token"
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_a_token_waiter_frees_its_slot() {
    let source = Source::with_lifetime(HOUR).with_delay(SECOND);
    let service = layer(&source).max_waiting(2).build().layer(api(&source).0);
    let leaves = spawn(&service, get("/"));
    let stays = spawn(&service, get("/"));
    yield_now().await;
    assert!(send(&service, get("/")).await.is_err());

    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    let comes = send(&service, get("/")).await;

    assert_eq!(comes.unwrap().status(), StatusCode::OK);
    assert_eq!(stays.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_401_is_returned_if_the_token_queue_is_full() {
    let source = Source::with_lifetime(HOUR);
    let (api, _) = api(&source);
    let slow = service_fn(move |request| {
        let answer = api.clone().oneshot(request);
        async move {
            sleep(SECOND / 10).await;
            answer.await
        }
    });
    let service = layer(&source).max_waiting(1).build().layer(slow);
    send(&service, get("/")).await.unwrap();
    source.revoke_all();
    let source = source.with_delay(SECOND);

    let [one, other] = [0; 2].map(|_| spawn(&service, get("/")));

    assert_eq!(one.await.unwrap().unwrap().status(), StatusCode::OK);
    let refused = other.await.unwrap().unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn token_waiters_resume_in_arrival_order() {
    let source = Source::with_lifetime(HOUR).with_delay(SECOND);
    let order = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&order);
    let (inner, _) = serving(move |request| {
        log.lock().unwrap().push(request.uri().path().to_owned());
        std::future::ready(status_only(StatusCode::OK))
    });
    let service = layer(&source).build().layer(inner);
    let mut callers = Vec::new();
    for number in 0..100 {
        callers.push(spawn(&service, get(&format!("/{number}"))));
        // Some leave, and others come after them.
        if number % 3 == 2 {
            yield_now().await;
            callers.swap_remove(callers.len() - 2).abort();
        }
    }
    for caller in callers {
        caller.await.unwrap().unwrap();
    }

    let order = order.lock().unwrap();
    let expected = (0..100).filter(|number| number % 3 != 1 || *number == 99);
    assert!(
        order.iter().eq(&expected
            .map(|number| format!("/{number}"))
            .collect::<Vec<_>>())
    );
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_fetch_wakes_each_waiter_once() {
    for failing in [false, true] {
        let source = Source::with_lifetime(HOUR).with_delay(SECOND);
        source.fail_with(failing.then(|| TokenError::transient("is down")));
        let service = layer(&source).build().layer(api(&source).0);
        let mut counts = Vec::new();
        let mut callers = Vec::new();
        for _ in 0..1_000 {
            let (caller, polls) = Polls::of(service.clone().oneshot(get("/")));
            callers.push(tokio::spawn(caller));
            counts.push(polls);
        }
        sleep(2 * SECOND).await;

        for (caller, polls) in callers.into_iter().zip(counts) {
            assert_eq!(caller.await.unwrap().is_err(), failing);
            assert_eq!(polls.load(SeqCst), 2, "to ask, and to get the outcome");
        }
    }
}

#[test]
fn a_hundred_thousand_callers_wait_for_a_token_in_two_kilobytes_each() {
    let source = Source::with_lifetime(HOUR).with_delay(SECOND);
    let service = layer(&source).build().layer(api(&source).0);

    let bytes = bytes_per_waiter(&paused(), || service.clone().oneshot(get("/")));

    println!("{bytes} bytes for each of {MANY} who wait for a token");
    assert!((100..2_150).contains(&bytes), "{bytes}");
}
