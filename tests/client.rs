//! The HTTP client, against loopback servers.
#![cfg(feature = "client")]

use std::{collections::HashMap, error::Error, io};

use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;
use tower_m2m::{
    Client,
    client::{ClientErrorKind, RequestBody},
    client_credentials::{Config, TokenError},
    test_util::{Api, ApiBuilder, ApiFault, Issuer},
};

/// An issuer, an API that returns what it receives at `/echo`, and a client for both.
struct World {
    issuer: Issuer,
    api: Api,
    client: Client,
}

async fn world() -> World {
    let issuer = Issuer::builder()
        .client("orders", "secret")
        .start()
        .await
        .unwrap();
    let api = echoing(Api::builder()).tokens(issuer.tokens());
    let api = api.start().await.unwrap();
    let client = client(&issuer, &api, "secret");
    World {
        issuer,
        api,
        client,
    }
}

fn echoing(api: ApiBuilder) -> ApiBuilder {
    let echo = |request: &Request<Bytes>| {
        let header = |name| {
            let value = request.headers().get(name);
            value.map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        let seen = serde_json::json!({
            "query": request.uri().query(),
            "type": header(CONTENT_TYPE),
            "agent": header(USER_AGENT),
            "body": String::from_utf8_lossy(request.body()),
        });
        Response::new(Full::from(seen.to_string()))
    };
    api.route(Method::GET, "/echo", echo)
        .route(Method::POST, "/echo", echo)
        .route(Method::GET, "/moved", |_| {
            let moved = Response::builder().status(302).header("location", "/echo");
            moved.body(Full::default()).unwrap()
        })
}

fn client(issuer: &Issuer, api: &Api, secret: &str) -> Client {
    let variables = HashMap::from([
        ("OAUTH_CLIENT_ID", "orders".to_owned()),
        ("OAUTH_CLIENT_SECRET", secret.to_owned()),
        ("OAUTH_TOKEN_URL", issuer.token_url()),
        ("OAUTH_ALLOWED_ORIGINS", api.origin()),
    ]);
    let config = Config::from_vars("OAUTH_", |name| variables.get(name).cloned());
    config.unwrap().client().unwrap()
}

#[derive(serde::Deserialize)]
struct Seen {
    query: Option<String>,
    r#type: String,
    agent: String,
    body: String,
}

#[tokio::test]
async fn a_request_has_a_token_its_query_and_its_json() {
    let World {
        issuer: _issuer,
        api,
        client,
    } = world().await;
    let url = format!("{}/echo", api.origin());

    let request = client
        .post(&url)
        .query([("state", "open & new"), ("page", "1")]);
    let response = request.json(&["a", "b"]).send().await.unwrap();
    let seen: Seen = response.error_for_status().unwrap().json().await.unwrap();

    assert_eq!(seen.query.as_deref(), Some("state=open%20%26%20new&page=1"));
    assert_eq!(seen.r#type, "application/json");
    assert!(seen.agent.starts_with("tower-m2m/"), "{}", seen.agent);
    assert_eq!(seen.body, r#"["a","b"]"#);
    assert!(api.requests()[0].authorization().is_some());
    // A query in the URL stays.
    let request = client.get(format!("{url}?page=2")).query([("size", "9")]);
    let seen: Seen = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(seen.query.as_deref(), Some("page=2&size=9"));
    assert_eq!(client.handle().quotas().status().len(), 1);
}

#[tokio::test]
async fn clones_share_the_token_and_a_401_replaces_it() {
    let World {
        issuer,
        api,
        client,
    } = world().await;
    let url = format!("{}/echo", api.origin());
    client.get(&url).send().await.unwrap();
    let clone = client.clone();
    clone.get(&url).send().await.unwrap();
    assert_eq!(issuer.stats().issued, 1);

    issuer.tokens().revoke_all();
    let response = clone.post(&url).body("again").send().await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    let seen: Seen = response.json().await.unwrap();
    assert_eq!((&*seen.body, issuer.stats().issued), ("again", 2));
}

#[tokio::test]
async fn a_stream_is_sent_once() {
    let World {
        issuer: _issuer,
        api,
        client,
    } = world().await;
    let url = format!("{}/echo", api.origin());
    let stream = || {
        // No type that can be copied: its length is unknown, too.
        let body = Full::new(Bytes::from_static(b"one two"));
        RequestBody::stream(body.map_err(io::Error::other))
    };

    let response = client.post(&url).body(stream()).send().await.unwrap();
    let seen: Seen = response.json().await.unwrap();
    assert_eq!(seen.body, "one two");
    api.next(ApiFault::status(StatusCode::UNAUTHORIZED));
    let response = client.post(&url).body(stream()).send().await.unwrap();

    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(api.requests().len(), 2);
}

#[tokio::test]
async fn redirects_are_returned() {
    let World {
        issuer: _issuer,
        api,
        client,
    } = world().await;

    let response = client.get(format!("{}/moved", api.origin())).send().await;

    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(response.headers()["location"], "/echo");
    assert_eq!(api.requests().len(), 1);
}

#[tokio::test]
async fn errors_name_the_request_and_no_secret() {
    let World {
        issuer,
        api,
        client,
    } = world().await;
    let url = |path: &str| format!("{}{path}", api.origin());

    let status = client.get(url("/echo?key=canary")).send().await.unwrap();
    drop(status);
    api.next(ApiFault::status(StatusCode::NOT_FOUND));
    let missing = client.get(url("/gone?key=canary")).send().await.unwrap();
    let missing = missing.error_for_status().unwrap_err();
    let text = client.get(url("/moved")).send().await.unwrap();
    let text = text.json::<u8>().await.unwrap_err();
    let elsewhere = client.get("https://elsewhere.example/canary?canary");
    let elsewhere = elsewhere.send().await.unwrap_err();
    let wrong = client.get("/orders").send().await.unwrap_err();
    let header = client.get(url("/echo")).header("a b", "canary").send();
    let header = header.await.unwrap_err();
    let no_token = self::client(&issuer, &api, "canary")
        .get(url("/echo"))
        .send();
    let no_token = no_token.await.unwrap_err();

    let kinds = [&missing, &text, &elsewhere, &wrong, &header, &no_token];
    assert_eq!(
        kinds.map(|error| error.kind()),
        [
            ClientErrorKind::Status(StatusCode::NOT_FOUND),
            ClientErrorKind::Json,
            ClientErrorKind::Origin,
            ClientErrorKind::Request,
            ClientErrorKind::Request,
            ClientErrorKind::Token,
        ]
    );
    assert_eq!(missing.status(), Some(StatusCode::NOT_FOUND));
    assert_eq!(
        missing.to_string(),
        format!("GET {} was answered with 404 Not Found", url("/gone"))
    );
    assert!(no_token.source().unwrap().is::<TokenError>());
    for error in kinds {
        let text = format!("{error} {error:?} {:?}", error.source());
        let text = text.replace("/canary", "");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn the_client_is_a_service() {
    let World {
        issuer: _issuer,
        api,
        client,
    } = world().await;
    let request = Request::get(format!("{}/echo", api.origin()));
    let request = request.body(RequestBody::empty()).unwrap();

    let response = client.into_service().oneshot(request).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{"));
}
