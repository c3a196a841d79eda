//! The authorization server: what it issues, and how it rejects.

use std::{collections::HashSet, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Request, StatusCode, header};
use tokio::time::{advance, timeout};
use tower::ServiceExt as _;
use tower_m2m::test_util::{AcceptedAuth, Answer, Fault, Issuer, IssuerService};

use crate::client::{Body, MINUTE, POSTED, json, number, send, token_request};

fn issuer() -> Issuer {
    Issuer::builder().client("id", "s+e c").in_process()
}

fn basic_request(path: &str, credentials: &str) -> Request<Body> {
    let mut request = token_request(path, "grant_type=client_credentials");
    let value = format!("Basic {}", STANDARD.encode(credentials));
    let value = HeaderValue::try_from(value).unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, value);
    request
}

async fn token(issuer: &IssuerService) -> String {
    let answer = send(issuer.clone(), token_request("/oauth/token", POSTED)).await;
    json(answer).await["access_token"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_second_token_is_redundant_until_the_refresh_window_or_a_revocation() {
    let issuer = issuer();
    let service = issuer.service();

    token(&service).await;
    advance(Duration::from_secs(239)).await;
    token(&service).await;
    assert_eq!(issuer.stats().redundant, 1);

    advance(Duration::from_secs(240)).await;
    token(&service).await;
    assert_eq!(issuer.stats().redundant, 1, "in the window of the second");

    issuer.revoke_all();
    let last = token(&service).await;
    assert_eq!(issuer.stats().redundant, 1, "all others are revoked");
    assert!(issuer.is_valid(&last));
    advance(Duration::from_secs(300)).await;
    assert!(!issuer.is_valid(&last));
}

#[tokio::test]
async fn clients_authenticate_only_with_accepted_methods() {
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

    let seen = issuer.stats();
    assert_eq!((seen.requests, seen.issued, seen.rejected), (8, 3, 5));
    let first = &issuer.requests()[0];
    assert_eq!(
        (&first.body[..], first.authorization()),
        (POSTED.as_bytes(), None)
    );
    assert_eq!(first.parameter("client_secret"), Some("s+e c"));
    assert!(!format!("{issuer:?} {first:?}").contains("s+e c"));
}

#[tokio::test]
async fn didit_omits_token_type_and_keycloak_adds_members() {
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
async fn scripted_faults_are_returned_in_order_then_the_permanent_one() {
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
    let with_delay = next().await.unwrap();
    let redirect = next().await.unwrap();

    assert_eq!(unavailable.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(number(&unavailable, "retry-after"), Some(3));
    assert_eq!(with_delay.status(), StatusCode::OK);
    let requests = issuer.requests();
    assert_eq!(requests[2].at - requests[1].at, MINUTE);
    assert_eq!(redirect.headers()["location"], "https://elsewhere.example/");
    assert!(next().await.is_err());
    assert!(timeout(MINUTE, next()).await.is_err());
    assert_eq!(json(next().await.unwrap()).await["error"], "invalid_client");
    assert_eq!(next().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn token_lifetime_starts_before_the_latency_and_settings_can_change() {
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
