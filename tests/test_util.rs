//! The loopback servers and the probe: what other tests rely on.

use std::{
    collections::HashSet,
    task::Poll,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;
use tokio::time::{advance, timeout};
use tower::{Service, ServiceExt as _};
use tower_m2m::test_util::{
    AcceptedAuth, Answer, Api, ApiFault, Dialect, Fault, Issuer, IssuerService, Probe, Quota,
    TokenBook,
};

type Body = Full<Bytes>;

const MINUTE: Duration = Duration::from_secs(60);
const POSTED: &str = "grant_type=client_credentials&client_id=id&client_secret=s%2Be%20c";

fn issuer() -> Issuer {
    Issuer::builder().client("id", "s+e c").in_process()
}

fn token_request(url: &str, body: &'static str) -> Request<Body> {
    Request::post(url)
        .header(
            header::CONTENT_TYPE,
            "application/x-www-form-urlencoded; charset=utf-8",
        )
        .body(Body::from(body))
        .unwrap()
}

fn basic_request(path: &str, credentials: &str) -> Request<Body> {
    let mut request = token_request(path, "grant_type=client_credentials");
    let value = format!("Basic {}", STANDARD.encode(credentials));
    let value = HeaderValue::try_from(value).unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, value);
    request
}

async fn send<S>(service: S, request: Request<Body>) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: std::fmt::Debug,
{
    service.oneshot(request).await.unwrap()
}

async fn json(response: Response<Body>) -> Value {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

async fn token(issuer: &IssuerService) -> String {
    let answer = send(issuer.clone(), token_request("/oauth/token", POSTED)).await;
    json(answer).await["access_token"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn get(path: &str, token: &str) -> Request<Body> {
    Request::get(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::default())
        .unwrap()
}

fn number(response: &Response<Body>, name: &str) -> Option<u64> {
    let value = response.headers().get(name)?;
    Some(value.to_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_token_fetched_over_http_1_and_2_opens_the_api() {
    let issuer = Issuer::builder()
        .client("id", "s+e c")
        .start()
        .await
        .unwrap();
    let api = Api::builder()
        .tokens(issuer.tokens())
        .start()
        .await
        .unwrap();

    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client = Client::builder(TokioExecutor::new())
            .http2_only(version == Version::HTTP_2)
            .build_http::<Body>();
        let answer = client
            .request(token_request(&issuer.token_url(), POSTED))
            .await
            .unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let request = get(&api.url(), answer["access_token"].as_str().unwrap());
        let answer = client.request(request).await.unwrap();

        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.version(), version);
    }

    assert_eq!(
        (issuer.seen().issued, issuer.seen().needless, api.seen().ok),
        (2, 1, 2)
    );
}

#[tokio::test]
async fn a_dropped_server_and_a_reset_both_break_the_connection() {
    let api = Api::builder().start().await.unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let request = || Request::get(api.url()).body(Body::default()).unwrap();
    api.next(ApiFault::Reset);

    let reset = client.request(request()).await;
    let answered = client.request(request()).await;
    api.next(ApiFault::Hang);
    let hanging = tokio::spawn(client.request(request()));
    while api.requests().len() < 3 {
        tokio::task::yield_now().await;
    }
    let late = request();
    drop(api);

    assert!(reset.is_err());
    assert_eq!(answered.unwrap().status(), StatusCode::OK);
    assert!(hanging.await.unwrap().is_err());
    assert!(client.request(late).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_second_token_is_needless_until_the_refresh_window_or_a_revocation() {
    let issuer = issuer();
    let service = issuer.service();

    token(&service).await;
    advance(Duration::from_secs(239)).await;
    token(&service).await;
    assert_eq!(issuer.seen().needless, 1);

    advance(Duration::from_secs(240)).await;
    token(&service).await;
    assert_eq!(issuer.seen().needless, 1, "in the window of the second");

    issuer.revoke_all();
    let last = token(&service).await;
    assert_eq!(issuer.seen().needless, 1, "all others are revoked");
    assert!(issuer.is_valid(&last));
    advance(Duration::from_secs(300)).await;
    assert!(!issuer.is_valid(&last));
}

#[tokio::test]
async fn clients_authenticate_only_as_the_endpoint_accepts_it() {
    let issuer = Issuer::builder()
        .client("id", "s+e c")
        .path("/post")
        .accept([AcceptedAuth::Post])
        .endpoint("/encoded", [AcceptedAuth::BasicEncoded])
        .endpoint("/raw", [AcceptedAuth::BasicRaw])
        .in_process();
    let (raw, encoded) = ("id:s+e c", "id:s%2Be+c");

    let cases = [
        (token_request("/post", POSTED), 200),
        (basic_request("/post", raw), 401),
        (token_request("/raw", POSTED), 401),
        (basic_request("/raw", raw), 200),
        (basic_request("/raw", encoded), 401),
        (basic_request("/encoded", encoded), 200),
        (basic_request("/encoded", raw), 401),
        (token_request("/post", "grant_type=password"), 401),
        (token_request("/elsewhere", POSTED), 404),
    ];
    for (request, expected) in cases {
        let shown = format!("{request:?}");
        let status = send(issuer.service(), request).await.status();
        assert_eq!(status, expected, "{shown}");
    }

    let seen = issuer.seen();
    assert_eq!((seen.token_requests, seen.issued, seen.refused), (8, 3, 5));
    let first = &issuer.requests()[0];
    assert_eq!(
        (&first.body[..], first.authorization()),
        (POSTED.as_bytes(), None)
    );
    assert_eq!(first.parameter("client_secret"), Some("s+e c"));
    assert!(!format!("{issuer:?} {first:?}").contains("s+e c"));
}

#[tokio::test]
async fn didit_answers_without_a_token_type_and_keycloak_with_its_extras() {
    let keys = async |answer| {
        let builder = Issuer::builder().client("id", "s+e c").answer(answer);
        let service = builder.in_process().service();
        let answer = json(send(service, token_request("/oauth/token", POSTED)).await).await;
        let keys = answer.as_object().unwrap().keys().cloned();
        keys.collect::<HashSet<_>>()
    };
    let set = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();

    let didit: HashSet<String> = set(&["access_token", "expires_in", "exp", "iat", "iss", "sub"]);
    let keycloak: HashSet<String> = set(&[
        "access_token",
        "expires_in",
        "refresh_expires_in",
        "token_type",
        "not-before-policy",
        "scope",
    ]);
    assert_eq!(keys(Answer::didit()).await, didit);
    assert_eq!(keys(Answer::keycloak()).await, keycloak);
}

#[tokio::test(start_paused = true)]
async fn scripted_faults_come_in_their_order_and_then_always() {
    let issuer = issuer();
    issuer.next(Fault::retry_after(StatusCode::SERVICE_UNAVAILABLE, 3));
    issuer.next(Fault::Delay(MINUTE));
    issuer.next(Fault::Redirect("https://elsewhere.example/".to_owned()));
    issuer.next(Fault::Reset);
    issuer.next(Fault::Hang);
    issuer.always(Some(Fault::oauth_error("invalid_client")));
    let next = || {
        let request = token_request("/oauth/token", POSTED);
        issuer.service().oneshot(request)
    };

    let unavailable = next().await.unwrap();
    let delayed = next().await.unwrap();
    let redirect = next().await.unwrap();

    assert_eq!(unavailable.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(number(&unavailable, "retry-after"), Some(3));
    assert_eq!(delayed.status(), StatusCode::OK);
    let requests = issuer.requests();
    assert_eq!(requests[2].at - requests[1].at, MINUTE);
    assert_eq!(redirect.headers()["location"], "https://elsewhere.example/");
    assert!(next().await.is_err());
    assert!(timeout(MINUTE, next()).await.is_err());
    assert_eq!(json(next().await.unwrap()).await["error"], "invalid_client");
    assert_eq!(next().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn the_api_says_when_its_quota_resets_and_admits_again_then() {
    let start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_500);
    let api = Api::builder()
        .quota(Quota::fixed_window(2, MINUTE))
        .dialect(Dialect::Didit)
        .wall(start)
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
    let seen = api.seen();
    assert_eq!((seen.requests, seen.ok, seen.rate_limited), (4, 3, 1));
    assert_eq!(seen.peak_100ms, 2);
}

#[tokio::test(start_paused = true)]
async fn a_scope_has_a_quota_of_its_own_and_a_refusal_charges_nobody() {
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
async fn tokens_and_api_keys_open_the_api_and_a_401_carries_the_challenge() {
    let tokens = TokenBook::new();
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
    assert_eq!(api.seen().unauthorized, 3);
}

#[tokio::test]
async fn a_probe_counts_who_is_ready_and_who_is_in_flight() {
    let probe = Probe::new(|request: u32| async move { Ok(request + 1) }).permits(1);
    let mut first = probe.clone();
    let mut second = probe.clone();

    first.ready().await.unwrap();
    assert_eq!(
        (probe.ready_held(), is_ready(&mut second).await),
        (1, false),
        "one permit"
    );
    let answer = first.call(1);
    assert_eq!((probe.ready_held(), probe.in_flight()), (0, 1));
    assert_eq!(answer.await.unwrap(), 2);
    assert_eq!((probe.in_flight(), probe.calls()), (0, 1));

    probe.block();
    assert!(!is_ready(&mut second).await);
    let waiting = tokio::spawn(probe.clone().oneshot(5));
    tokio::task::yield_now().await;
    probe.unblock();
    assert_eq!(waiting.await.unwrap().unwrap(), 6);
    assert!(is_ready(&mut second).await);
    drop(second);
    assert_eq!(probe.ready_held(), 0);
}

/// Polls once, without waiting.
async fn is_ready(probe: &mut Probe<u32, u32>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(Service::poll_ready(probe, cx).is_ready())).await
}

#[tokio::test]
#[should_panic(expected = "without having been polled ready")]
async fn a_probe_panics_when_a_clone_is_called_unready() {
    let mut probe = Probe::new(|(): ()| async { Ok(()) });
    probe.ready().await.unwrap();

    drop(probe.clone().call(()));
}

#[tokio::test(start_paused = true)]
async fn each_dialect_says_only_what_it_knows() {
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
            Dialect::DraftThree,
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
async fn refused_requests_prolong_the_quota_if_they_count() {
    let api = Api::builder()
        .quota(Quota::sliding_window(1, MINUTE))
        .count_refused(true)
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

#[tokio::test(start_paused = true)]
async fn a_token_lives_from_before_the_latency_and_settings_change_at_run_time() {
    let issuer = Issuer::builder()
        .client("id", "old")
        .latency(MINUTE)
        .in_process();
    let refused = send(issuer.service(), token_request("/oauth/token", POSTED)).await;
    issuer.set_secret("id", "s+e c");
    issuer.set_expires_in(MINUTE + Duration::from_secs(1));

    let token = token(&issuer.service()).await;

    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(issuer.is_valid(&token));
    advance(Duration::from_secs(1)).await;
    assert!(!issuer.is_valid(&token));
    let requests = issuer.requests();
    assert_eq!(requests[1].at - requests[0].at, MINUTE);
}
