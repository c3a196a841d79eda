//! The resource server: its quotas, and how it announces them.

use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tokio::time::advance;
use tower_m2m::test_util::{Api, ApiFault, Dialect, Quota, TokenRegistry};

use crate::client::{Body, MINUTE, get, json, number, send};

#[tokio::test(start_paused = true)]
async fn the_api_announces_its_reset_and_admits_again_then() {
    let start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_500);
    let api = Api::builder()
        .quota(Quota::fixed_window(2, MINUTE))
        .dialect(Dialect::Didit)
        .wall_clock(start)
        .in_process();
    let request = || get("/", "any");

    let first = send(api.service(), request()).await;
    send(api.service(), request()).await;
    advance(Duration::from_millis(20_200)).await;
    let refused = send(api.service(), request()).await;

    assert_eq!(number(&first, "x-ratelimit-remaining"), Some(1));
    assert_eq!(number(&first, "x-ratelimit-reset"), Some(1_790_000_061));
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(number(&refused, "x-ratelimit-reset"), Some(1_790_000_061));
    assert_eq!(number(&refused, "retry-after"), Some(40));
    let date = refused.headers()["date"].to_str().unwrap();
    let date = httpdate::parse_http_date(date).unwrap();
    assert_eq!(
        date,
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_020)
    );

    advance(Duration::from_secs(40)).await;
    let admitted = send(api.service(), request()).await;
    assert_eq!(admitted.status(), StatusCode::OK);
    let seen = api.stats();
    assert_eq!((seen.requests, seen.ok, seen.rate_limited), (4, 3, 1));
    assert_eq!(seen.peak_100ms, 2);
}

#[tokio::test(start_paused = true)]
async fn scopes_have_separate_quotas_and_rejections_are_not_charged() {
    let api = Api::builder()
        .quota_for("all", |_, _| true, Quota::fixed_window(3, MINUTE))
        .quota_for(
            "writes",
            |method, _| method == Method::POST,
            Quota::fixed_window(1, MINUTE),
        )
        .dialect(Dialect::Draft8)
        .in_process();
    let write = || Request::post("/").body(Body::from("12345")).unwrap();

    let first = send(api.service(), write()).await;
    let refused = send(api.service(), write()).await;
    let read = send(api.service(), get("/", "any")).await;

    assert_eq!(
        first.headers()["ratelimit-policy"],
        r#""all";q=3;w=60, "writes";q=1;w=60"#
    );
    assert_eq!(
        refused.headers()["ratelimit"],
        r#""all";r=2;t=60, "writes";r=0;t=60"#
    );
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(read.headers()["ratelimit"], r#""all";r=1;t=60"#);
    assert_eq!(json(first).await["received"], 5);
}

#[tokio::test]
async fn tokens_and_api_keys_are_accepted_and_a_401_has_a_challenge() {
    let tokens = TokenRegistry::new();
    tokens.insert("good", MINUTE);
    let api = Api::builder()
        .tokens(tokens.clone())
        .api_key(HeaderName::from_static("x-api-key"), "key")
        .route(Method::GET, "/teapots/*", |_| {
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            response
        })
        .in_process();
    let mut keyed = get("/", "bad");
    keyed
        .headers_mut()
        .insert("x-api-key", HeaderValue::from_static("key"));
    let status = async |request| send(api.service(), request).await.status();

    let refused = send(api.service(), get("/", "bad")).await;

    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        refused.headers()["www-authenticate"],
        "Bearer error=\"invalid_token\""
    );
    assert_eq!(status(keyed).await, StatusCode::OK);
    assert_eq!(
        status(get("/teapots/1", "good")).await,
        StatusCode::IM_A_TEAPOT
    );
    api.next(ApiFault::Unauthorized);
    assert_eq!(status(get("/", "good")).await, StatusCode::UNAUTHORIZED);
    tokens.revoke("good");
    assert_eq!(status(get("/", "good")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(api.stats().unauthorized, 3);
}

#[tokio::test(start_paused = true)]
async fn each_dialect_writes_only_its_own_headers() {
    let classic = ["x-ratelimit-limit", "x-ratelimit-reset"];
    let draft = ["ratelimit-limit", "ratelimit-reset"];
    let fields = ["ratelimit", "ratelimit-policy"];
    let retry = ["retry-after"];
    // Dialect, headers of the 200, headers of the 429.
    let cases = [
        (
            Dialect::Didit,
            classic.to_vec(),
            [&classic[..], &retry].concat(),
        ),
        (
            Dialect::DiditOnlyOn429,
            vec![],
            [&classic[..], &retry].concat(),
        ),
        (
            Dialect::Draft3,
            draft.to_vec(),
            [&draft[..], &retry].concat(),
        ),
        (
            Dialect::Draft8,
            fields.to_vec(),
            [&fields[..], &retry].concat(),
        ),
        (Dialect::RetryAfterOnly, vec![], retry.to_vec()),
        (Dialect::None, vec![], vec![]),
    ];
    let all = [&classic[..], &draft, &fields, &retry].concat();
    for (dialect, on_200, on_429) in cases {
        let api = Api::builder()
            .quota(Quota::token_bucket(1, 0.3))
            .dialect(dialect)
            .in_process();
        let answers = [
            (send(api.service(), get("/", "any")).await, on_200),
            (send(api.service(), get("/", "any")).await, on_429),
        ];
        for (answer, expected) in answers {
            let shown: Vec<_> = all
                .iter()
                .copied()
                .filter(|name| answer.headers().contains_key(*name))
                .collect();
            assert_eq!(shown, expected, "{dialect:?}");
            if shown.contains(&"retry-after") {
                assert_eq!(number(&answer, "retry-after"), Some(4), "{dialect:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn throttled_requests_extend_the_quota_if_they_count() {
    let api = Api::builder()
        .quota(Quota::sliding_window(1, MINUTE))
        .count_throttled(true)
        .in_process();
    let status = async || send(api.service(), get("/", "any")).await.status();

    assert_eq!(status().await, StatusCode::OK);
    advance(MINUTE / 2).await;
    assert_eq!(status().await, StatusCode::TOO_MANY_REQUESTS);
    advance(MINUTE / 2).await;
    assert_eq!(status().await, StatusCode::TOO_MANY_REQUESTS);
    advance(MINUTE).await;
    assert_eq!(status().await, StatusCode::OK);
}
