//! What is promised of tokens, through the public API and in virtual time.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{HeaderName, Request, StatusCode, header};
use support::{Body, Source, answering, api, get, layer, origin, post, send, spawn, status_only};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_m2m::{
    Attempts, ClientCredentialsLayer,
    client_credentials::{
        AccessToken, ExistingCredential, FetchContext, TokenError, TokenErrorKind, TokenEvent,
        TokenSource,
    },
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn ten_thousand_cold_requests_cost_one_token_request() {
    let source = Source::living(HOUR).delayed(SECOND);
    let (inner, calls) = api(&source);
    let service = layer(&source).build().layer(inner);

    let statuses = statuses(&service, 10_000).await;

    assert!(statuses.iter().all(|s| *s == StatusCode::OK));
    assert_eq!(source.fetches(), 1);
    assert_eq!(calls.load(SeqCst), 10_000);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_requests_on_expiry_cost_one_token_request() {
    let source = Source::living(HOUR).delayed(SECOND);
    let service = layer(&source).build().layer(api(&source).0);
    statuses(&service, 1).await;
    sleep(2 * HOUR).await;

    let statuses = statuses(&service, 10_000).await;

    assert!(statuses.iter().all(|s| *s == StatusCode::OK));
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_first_caller_changes_nothing() {
    let source = Source::living(HOUR).delayed(SECOND);
    let service = layer(&source).build().layer(api(&source).0);
    let first = tokio::spawn(send_owned(service.clone()));
    sleep(SECOND / 2).await;
    let second = tokio::spawn(send_owned(service.clone()));
    sleep(SECOND / 10).await;

    first.abort();

    let began = Instant::now();
    assert_eq!(second.await.unwrap(), StatusCode::OK);
    assert!(began.elapsed() < SECOND / 2);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_is_shared_and_remembered() {
    let source = Source::living(HOUR).delayed(SECOND);
    source.fail_with(Some(TokenError::transient("is down")));
    let service = layer(&source).build().layer(api(&source).0);

    let errors = errors(&service, 1_000).await;
    let later = errors_of(&service, 10).await;

    assert_eq!(errors.len(), 1_000);
    assert_eq!(later.len(), 10);
    assert_eq!(source.fetches(), 1);
    assert!(later[0].retry_after().unwrap() <= SECOND);
    assert!(later[0].to_string().contains("attempt 1"));
}

#[tokio::test(start_paused = true)]
async fn the_endpoints_retry_after_binds_every_caller() {
    let source = Source::living(HOUR);
    let throttled = TokenError::transient("was throttled").with_retry_after(60 * SECOND);
    source.fail_with(Some(throttled));
    let service = layer(&source).build().layer(api(&source).0);
    errors_of(&service, 1).await;
    source.fail_with(None);

    sleep(59 * SECOND).await;
    let early = errors_of(&service, 100).await;
    sleep(2 * SECOND).await;
    let late = statuses(&service, 100).await;

    assert_eq!(early.len(), 100);
    assert_eq!(late.len(), 100);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_asked_again_after_half_a_minute() {
    let source = Source::living(HOUR);
    source.fail_with(Some(TokenError::permanent("was refused")));
    let service = layer(&source).build().layer(api(&source).0);
    errors_of(&service, 1).await;

    sleep(29 * SECOND).await;
    errors_of(&service, 1).await;
    assert_eq!(source.fetches(), 1);
    source.fail_with(None);
    sleep(8 * SECOND).await;

    assert_eq!(statuses(&service, 1).await, [StatusCode::OK]);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_while_the_token_is_still_valid() {
    let source = Source::living(300 * SECOND);
    let service = layer(&source).build().layer(api(&source).0);
    statuses(&service, 1).await;
    let source = source.delayed(5 * SECOND);
    sleep(275 * SECOND).await;

    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(statuses(&service, 1).await, [StatusCode::OK]);
    }

    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(source.fetches(), 2);
    sleep(6 * SECOND).await;
    statuses(&service, 1).await;
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_early_refresh_keeps_the_valid_token() {
    let source = Source::living(300 * SECOND);
    let service = layer(&source).build().layer(api(&source).0);
    statuses(&service, 1).await;
    source.fail_with(Some(TokenError::permanent("is down")));
    sleep(275 * SECOND).await;

    let used = statuses(&service, 100).await;
    sleep(SECOND).await;
    let still_used = statuses(&service, 100).await;

    assert!(used.iter().chain(&still_used).all(|s| *s == StatusCode::OK));
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn lives_of_no_time_at_all_are_not_a_hot_loop() {
    let source = Source::living(Duration::ZERO);
    let service = layer(&source).build().layer(api(&source).0);

    for _ in 0..1_000 {
        assert_eq!(statuses(&service, 1).await, [StatusCode::OK]);
        sleep(Duration::from_millis(10)).await;
    }

    assert!(
        source.fetches() <= 15,
        "{} fetches in 10 s",
        source.fetches()
    );
}

#[tokio::test(start_paused = true)]
async fn a_thousand_stale_401s_cost_one_token_request_and_all_succeed() {
    let source = Source::living(HOUR);
    let slow = source.clone();
    let (inner, _) = answering(move |request| {
        // Each 401 comes at a time of its own, many of them after the new token.
        let accepted = slow.accepts(&request);
        let delay: u64 = request.uri().path()[1..].parse().unwrap();
        async move {
            sleep(Duration::from_millis(delay)).await;
            status_only(if accepted {
                StatusCode::OK
            } else {
                StatusCode::UNAUTHORIZED
            })
        }
    });
    let service = layer(&source).build().layer(inner);
    send(&service, get("/0")).await.unwrap();
    source.revoke_all();
    let source = source.delayed(SECOND / 10);

    let calls = (0..1_000).map(|n| spawn(&service, get(&format!("/{}", n + 1))));
    for call in calls.collect::<Vec<_>>() {
        let response = call.await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(Attempts::of(&response), 2);
    }

    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_always_says_401_costs_one_token_request_per_cooldown() {
    let source = Source::living(HOUR);
    let (inner, _) = answering(|_| std::future::ready(status_only(StatusCode::UNAUTHORIZED)));
    let service = layer(&source).build().layer(inner);

    for _ in 0..600 {
        assert_eq!(
            send(&service, get("/")).await.unwrap().status(),
            StatusCode::UNAUTHORIZED
        );
        sleep(SECOND / 10).await;
    }

    // One for the start, one at once, and then after 20 s and 40 s more.
    assert!((3..=4).contains(&source.fetches()), "{}", source.fetches());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_the_issuer_hands_out_again_is_not_replayed() {
    let (inner, calls) = answering(|_| std::future::ready(status_only(StatusCode::UNAUTHORIZED)));
    let service = ClientCredentialsLayer::builder(AccessToken::new("api-key"), origin())
        .header(HeaderName::from_static("x-api-key"))
        .build()
        .layer(inner);

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_401_about_something_else_costs_nothing() {
    let source = Source::living(HOUR);
    let (inner, calls) = answering(|_| {
        let mut response = status_only(StatusCode::UNAUTHORIZED);
        let scope = r#"Bearer error="insufficient_scope""#.parse().unwrap();
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, scope);
        std::future::ready(response)
    });
    let service = layer(&source).build().layer(inner);

    send(&service, get("/")).await.unwrap();

    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_403_is_never_treated_as_a_401() {
    let source = Source::living(HOUR);
    let (inner, calls) = answering(|_| std::future::ready(status_only(StatusCode::FORBIDDEN)));
    let service = layer(&source).build().layer(inner);

    send(&service, get("/")).await.unwrap();

    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_stays_if_the_refresh_fails() {
    let source = Source::living(HOUR);
    let revoked = source.clone();
    let service = layer(&source).build().layer(api(&source).0);
    statuses(&service, 1).await;
    source.fail_with(Some(TokenError::transient("is down")));
    revoked.revoke_all();

    let status = send(&service, get("/")).await.unwrap().status();
    let again = send(&service, get("/")).await.unwrap().status();

    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(again, StatusCode::UNAUTHORIZED);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_sent_again_is_sent_once_and_the_token_renewed() {
    let source = Source::living(HOUR);
    let valid = source.clone();
    let (inner, calls) = answering(move |request| {
        let accepted = valid.accepts(&request);
        std::future::ready(status_only(if accepted {
            StatusCode::OK
        } else {
            StatusCode::UNAUTHORIZED
        }))
    });
    let service = layer(&source).replay(false).build().layer(inner);
    statuses(&service, 1).await;
    source.revoke_all();

    let first = send(&service, post("/")).await.unwrap().status();
    sleep(SECOND).await;
    let second = send(&service, post("/")).await.unwrap().status();

    assert_eq!(first, StatusCode::UNAUTHORIZED);
    assert_eq!(second, StatusCode::OK);
    assert_eq!(calls.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_event_sink_changes_nothing() {
    let source = Source::living(HOUR);
    let told = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&told);
    let layer = layer(&source)
        .on_event(|_| panic!("a sink of the user's"))
        .on_event(move |_: &TokenEvent<'_>| {
            counter.fetch_add(1, SeqCst);
        })
        .build();
    let service = layer.layer(api(&source).0);

    assert_eq!(statuses(&service, 10).await.len(), 10);

    assert_eq!(told.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_source_is_a_failure_like_others() {
    struct Panics;
    impl TokenSource for Panics {
        async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
            panic!("a source of the user's")
        }
    }
    let (inner, _) = api(&Source::default());
    let service = ClientCredentialsLayer::builder(Panics, origin())
        .build()
        .layer(inner);

    let error = errors_of(&service, 3).await.remove(2);

    assert_eq!(error.kind(), TokenErrorKind::Panicked);
    assert!(error.is_transient());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_hangs_ends_at_its_deadline() {
    let source = Source::living(HOUR).delayed(24 * HOUR);
    let service = layer(&source).build().layer(api(&source).0);
    let began = Instant::now();

    let error = errors_of(&service, 1).await.remove(0);

    assert_eq!(error.kind(), TokenErrorKind::Timeout);
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[test]
fn a_refresh_stranded_on_an_idle_runtime_is_taken_over() {
    let source = Source::living(HOUR).delayed(SECOND);
    let service = layer(&source).build().layer(api(&source).0);
    let paused = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    // The first runtime starts a fetch and is not driven any more, but not dropped either.
    let idle = paused();
    let mut first = None;
    idle.block_on(async {
        first = Some(tokio::spawn(send_owned(service.clone())));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    });

    let status = paused().block_on(send_owned(service.clone()));

    assert_eq!(status, StatusCode::OK);
    assert_eq!(source.fetches(), 2);
    drop(first);
}

#[test]
fn a_runtime_that_ends_during_a_fetch_does_not_strand_the_next() {
    let source = Source::living(HOUR).delayed(SECOND);
    let service = layer(&source).build().layer(api(&source).0);
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    let ended = runtime();
    ended.block_on(async {
        drop(timeout(SECOND / 2, send_owned(service.clone())).await);
    });
    drop(ended);

    assert_eq!(runtime().block_on(send_owned(service)), StatusCode::OK);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_token_while_holding_readiness() {
    let source = Source::living(HOUR).delayed(20 * SECOND);
    let (inner, _) = api(&source);
    let limited = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(1))
        .service(inner);
    let mut direct = limited.clone();
    // Kept alive: it is the service, not its owner's departure, that gives readiness back.
    let mut service = layer(&source).build().layer(limited);
    service.ready().await.unwrap();

    let waiting = tokio::spawn(service.call(get("/")));
    tokio::task::yield_now().await;

    // The one permit is free, although a request waits for a token.
    let ready = timeout(SECOND, direct.ready()).await;
    assert!(ready.is_ok());
    drop(direct);
    let response = waiting.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    drop(service);
}

#[tokio::test(start_paused = true)]
async fn a_callers_credential_is_replaced_kept_or_refused() {
    let source = Source::living(HOUR);
    let (inner, _) = answering(|request| {
        let theirs = request.headers()[header::AUTHORIZATION] == "Basic theirs";
        let mut response = status_only(StatusCode::UNAUTHORIZED);
        if !theirs {
            *response.status_mut() = StatusCode::OK;
        }
        std::future::ready(response)
    });
    let with = |existing| {
        let layer = layer(&source).on_existing_credential(existing).build();
        layer.layer(inner.clone())
    };
    let request = || {
        let mut request = get("/");
        let theirs = "Basic theirs".parse().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, theirs);
        request
    };

    let replaced = send(&with(ExistingCredential::Replace), request()).await;
    let kept = send(&with(ExistingCredential::Keep), request()).await;
    let refused = send(&with(ExistingCredential::Refuse), request()).await;

    assert_eq!(replaced.unwrap().status(), StatusCode::OK);
    assert_eq!(kept.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert!(refused.is_err());
    // The kept credential's 401 did not touch our token: it was never fetched there.
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_handle_gives_forces_drops_and_shuts_down() {
    let source = Source::living(HOUR);
    let layer = layer(&source).build();
    let handle = layer.handle();
    let service = layer.layer(api(&source).0);

    handle.warm().await.unwrap();
    assert_eq!(handle.token().await.unwrap().expose(), Some("token-1"));
    assert_eq!(
        handle.refresh_now().await.unwrap().expose(),
        Some("token-2")
    );
    handle.invalidate();
    assert!(!handle.status().is_usable());
    assert_eq!(handle.token().await.unwrap().expose(), Some("token-3"));
    handle.shutdown().await;
    assert_eq!(statuses(&service, 1).await, [StatusCode::OK]);
    sleep(2 * HOUR).await;

    let error = errors_of(&service, 1).await.remove(0);
    assert_eq!(error.kind(), TokenErrorKind::ShutDown);
    assert_eq!(source.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_that_fails_keeps_the_token() {
    let source = Source::living(HOUR);
    let layer = layer(&source).build();
    let handle = layer.handle();
    handle.warm().await.unwrap();
    source.fail_with(Some(TokenError::transient("is down")));

    assert!(handle.refresh_now().await.is_err());

    assert!(handle.status().is_usable());
    assert_eq!(handle.token().await.unwrap().expose(), Some("token-1"));
}

#[tokio::test(start_paused = true)]
async fn a_token_with_a_line_break_is_an_error_and_does_not_show() {
    let service = ClientCredentialsLayer::builder(AccessToken::new("canary\nx"), origin())
        .build()
        .layer(api(&Source::default()).0);

    let error = errors_of(&service, 1).await.remove(0);

    assert_eq!(error.kind(), TokenErrorKind::Malformed);
    assert!(!format!("{error} {error:?}").contains("canary"));
}

async fn send_owned<S>(service: S) -> StatusCode
where
    S: Service<Request<Body>, Response = http::Response<Body>, Error = tower_m2m::BoxError> + Clone,
{
    send(&service, get("/")).await.unwrap().status()
}

async fn outcomes<S>(
    service: &S,
    count: usize,
) -> Vec<Result<http::Response<Body>, tower_m2m::BoxError>>
where
    S: Service<Request<Body>, Response = http::Response<Body>, Error = tower_m2m::BoxError>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let calls: Vec<_> = (0..count).map(|_| spawn(service, get("/"))).collect();
    let mut outcomes = Vec::with_capacity(count);
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    outcomes
}

async fn statuses<S>(service: &S, count: usize) -> Vec<StatusCode>
where
    S: Service<Request<Body>, Response = http::Response<Body>, Error = tower_m2m::BoxError>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let outcomes = outcomes(service, count).await.into_iter();
    outcomes.map(|outcome| outcome.unwrap().status()).collect()
}

async fn errors_of<S>(service: &S, count: usize) -> Vec<TokenError>
where
    S: Service<Request<Body>, Response = http::Response<Body>, Error = tower_m2m::BoxError>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let outcomes = outcomes(service, count).await.into_iter();
    outcomes
        .map(|outcome| *outcome.unwrap_err().downcast().unwrap())
        .collect()
}

use errors_of as errors;
