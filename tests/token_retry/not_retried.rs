//! What is waited for, or left to the back-off.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::{Instant, sleep};
use tower_m2m::{
    client_credentials::{Config, TokenErrorKind as Kind},
    test_util::Fault,
};

use crate::{
    support::SECOND,
    world::{MILLISECOND, endpoint, handle, issuer, layer},
};

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_slow_but_answers_is_waited_for() {
    let issuer = issuer();
    for _ in 0..2 {
        issuer.next(Fault::Delay(14 * SECOND));
    }
    let handle = handle(&issuer);

    handle.token().await.unwrap();
    handle.refresh_now().await.unwrap();

    assert_eq!(issuer.stats().requests, 2);
}

#[tokio::test(start_paused = true)]
async fn throttled_and_permanent_errors_are_requested_once() {
    let asks = |code, wait| (Fault::retry_after(code, wait), code);
    let says = |code| (Fault::status(code), code);
    let html = Bytes::from("<html>maintenance</html>");
    for (fault, what) in [
        asks(StatusCode::TOO_MANY_REQUESTS, 1),
        asks(StatusCode::BAD_GATEWAY, 1),
        asks(StatusCode::SERVICE_UNAVAILABLE, 0),
        asks(StatusCode::GATEWAY_TIMEOUT, 1),
        says(StatusCode::TOO_MANY_REQUESTS),
        says(StatusCode::INTERNAL_SERVER_ERROR),
        says(StatusCode::NOT_FOUND),
        (
            Fault::oauth_error("invalid_client"),
            StatusCode::BAD_REQUEST,
        ),
        (Fault::oauth_error("invalid_scope"), StatusCode::BAD_REQUEST),
        (Fault::Body(html, "text/html".to_owned()), StatusCode::OK),
    ] {
        let issuer = issuer();
        issuer.next(fault);

        handle(&issuer).token().await.unwrap_err();

        assert_eq!(issuer.stats().requests, 1, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_three_requests_per_backoff() {
    let issuer = issuer();
    issuer.always(Some(Fault::status(StatusCode::SERVICE_UNAVAILABLE)));
    let handle = handle(&issuer);
    let ask_often = async |times: usize| {
        let callers = (0..times).map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.token().await })
        });
        for caller in callers.collect::<Vec<_>>() {
            let error = caller.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), Kind::Server);
        }
    };

    ask_often(1_000).await;
    ask_often(1_000).await;
    assert_eq!(issuer.stats().requests, 3);

    sleep(SECOND).await;
    ask_often(1_000).await;
    ask_often(1_000).await;
    assert_eq!(issuer.stats().requests, 6);
}

#[tokio::test(start_paused = true)]
async fn no_retry_is_scheduled_after_the_deadline() {
    let issuer = issuer();
    issuer.always(Some(Fault::status(StatusCode::SERVICE_UNAVAILABLE)));
    let handle = layer(endpoint(&issuer, "secret").service(issuer.service()))
        .fetch_timeout(200 * MILLISECOND)
        .build()
        .handle();
    let began = Instant::now();

    let error = handle.token().await.unwrap_err();

    assert_eq!(error.kind(), Kind::Server);
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(issuer.stats().requests, 1);
}

#[tokio::test(start_paused = true)]
async fn without_retries_there_is_one_attempt_and_it_has_all_the_time() {
    for (fault, kind, seconds) in [
        (Fault::Reset, Kind::Transport, 0),
        (Fault::Hang, Kind::Timeout, 30),
    ] {
        let issuer = issuer();
        issuer.next(fault);
        let endpoint = endpoint(&issuer, "secret").retries(0);
        let handle = layer(endpoint.service(issuer.service())).build().handle();
        let began = Instant::now();

        let error = handle.token().await.unwrap_err();

        assert_eq!((error.kind(), began.elapsed().as_secs()), (kind, seconds));
        assert_eq!(issuer.stats().requests, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn token_retries_can_be_configured() {
    let issuer = issuer();
    issuer.always(Some(Fault::Reset));
    let text = format!(
        r#"{{"client_id":"id","client_secret":"secret","token_url":"{}","token_retries":4}}"#,
        issuer.token_url()
    );
    let config: Config = serde_json::from_str(&text).unwrap();
    let endpoint = config.endpoint().unwrap().service(issuer.service());

    layer(endpoint).build().handle().token().await.unwrap_err();

    assert_eq!(issuer.stats().requests, 5);
}
