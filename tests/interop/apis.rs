//! What APIs do with the tokens of their issuers.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use http::{Request, StatusCode, header};
use http_body_util::Full;
use tower::ServiceExt;
use tower_m2m::{ClientAuth, TokenEndpoint};

use crate::{
    servers::{Client, SECRET, Servers, http},
    table::{Finished, Outcome, Table},
};

const INTROSPECTION: &str = "oidc-provider, introspection";
const EXPRESS: &str = "express-oauth2-jwt-bearer";
const DJANGO: &str = "Django REST framework";
const DOORKEEPER: &str = "Doorkeeper";
const ENVOY: &str = "Envoy, jwt_authn";

pub(crate) async fn table(servers: &Servers) -> Finished {
    let mut table = Table::new("API", &[INTROSPECTION, EXPRESS, DJANGO, DOORKEEPER, ENVOY]);
    let client = |server, id, resource, api| {
        let issuer = servers.get(server, "issuer");
        let auth = ClientAuth::basic(id, SECRET);
        let endpoint = TokenEndpoint::discover(issuer, auth).scope("orders.read");
        Client::new(endpoint.resource(resource), servers.get(api, "api"))
    };
    let opaque = |resource| client("issuer", "basic", resource, "issuer");
    let jwt = |resource| client("issuer", "basic", resource, "jwt_api");
    let envoy = |resource| client("issuer", "basic", resource, "envoy_api");
    let rails = servers.get("doorkeeper", "api");
    let doorkeeper = |id| {
        let url = format!("{rails}/oauth/token").parse().unwrap();
        let endpoint = TokenEndpoint::new(url, ClientAuth::post(id, SECRET)).scope("orders.read");
        Client::new(endpoint, rails.clone())
    };
    let django_api = servers.get("django_api", "api");
    let django = |id| client("django_api", id, &*django_api, "django_api");

    let row = "one token for many requests";
    table.cell(row, INTROSPECTION, many(opaque(OPAQUE)));
    table.cell(row, EXPRESS, many(jwt(JWT)));
    table.cell(row, DJANGO, many(django("basic")));
    table.cell(row, DOORKEEPER, many(doorkeeper("basic")));
    table.cell(row, ENVOY, many(envoy(JWT)));

    // Doorkeeper answers one request after the other.
    let row = "tokens that live for 2 s, Doorkeeper's for 5 s";
    table.cell(row, INTROSPECTION, short_lived(opaque(SHORT_OPAQUE), 4..=9));
    table.cell(row, EXPRESS, short_lived(jwt(SHORT_JWT), 4..=9));
    table.cell(row, DJANGO, short_lived(django("short"), 4..=9));
    table.cell(row, DOORKEEPER, short_lived(doorkeeper("short"), 2..=4));
    table.cell(row, ENVOY, short_lived(envoy(SHORT_JWT), 4..=9));

    let row = "a token that is revoked";
    let revocation = format!("{}/token/revocation", servers.get("issuer", "issuer"));
    table.cell(row, INTROSPECTION, revoked(opaque(OPAQUE), revocation));
    table.cell(row, EXPRESS, not_offered());
    let revocation = format!("{}/revoke_token/", servers.get("django_api", "issuer"));
    table.cell(row, DJANGO, revoked(django("basic"), revocation));
    let revocation = format!("{rails}/oauth/revoke");
    table.cell(row, DOORKEEPER, revoked(doorkeeper("basic"), revocation));
    table.cell(row, ENVOY, not_offered());

    let row = "a scope that is missing";
    table.cell(row, INTROSPECTION, out_of_scope(opaque(OPAQUE)));
    table.cell(row, EXPRESS, out_of_scope(jwt(JWT)));
    table.cell(row, DJANGO, out_of_scope(django("basic")));
    table.cell(row, DOORKEEPER, out_of_scope(doorkeeper("basic")));
    table.cell(row, ENVOY, out_of_scope(envoy(JWT)));

    let row = "a token for another API";
    let elsewhere = client("django_api", "basic", JWT, "django_api");
    table.cell(row, INTROSPECTION, not_offered());
    table.cell(row, EXPRESS, another_audience(jwt(OTHER_JWT)));
    table.cell(row, DJANGO, another_audience(elsewhere));
    let elsewhere = client("django_api", "basic", JWT, "doorkeeper");
    table.cell(row, DOORKEEPER, another_audience(elsewhere));
    table.cell(row, ENVOY, forbidden_audience(envoy(OTHER_JWT)));

    let row = "an API that refuses tokens before their end";
    table.cell(row, INTROSPECTION, not_offered());
    table.cell(row, EXPRESS, rejected_early(jwt(JWT)));
    table.cell(row, DJANGO, not_offered());
    table.cell(row, DOORKEEPER, not_offered());
    table.cell(row, ENVOY, not_offered());

    table.finish().await
}

const JWT: &str = "https://api.example/jwt";
const OTHER_JWT: &str = "https://api.example/jwt/other";
const SHORT_JWT: &str = "https://api.example/jwt/short";
const OPAQUE: &str = "https://api.example/opaque";
const SHORT_OPAQUE: &str = "https://api.example/opaque/short";

async fn not_offered() -> Outcome {
    Outcome::NotOffered
}

async fn many(client: Client) -> Outcome {
    let requests = (0..20).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.get("/orders").await })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap(), StatusCode::OK);
    }
    assert_eq!(client.counts(), (20, 1));
    Outcome::Passed
}

async fn short_lived(client: Client, fetches: RangeInclusive<usize>) -> Outcome {
    let others = client.get_for(Duration::from_secs(7), "/orders").await;

    let (_, fetched) = client.counts();
    assert!(others.is_empty(), "{others:?}");
    // Tokens for 2 s are renewed when about one is over.
    assert!(fetches.contains(&fetched), "{fetched} token requests");
    Outcome::Passed
}

async fn revoked(client: Client, revocation: String) -> Outcome {
    assert_eq!(client.get("/orders").await, StatusCode::OK);
    let first = client.tokens.token().await.unwrap();
    revoke(&revocation, first.expose().unwrap()).await;

    assert_eq!(client.get("/orders").await, StatusCode::OK);
    assert_eq!(client.get("/orders").await, StatusCode::OK);

    let second = client.tokens.token().await.unwrap();
    assert_ne!(first.expose(), second.expose());
    // One 401 and its replay.
    assert_eq!(client.counts(), (4, 2));
    Outcome::Passed
}

async fn out_of_scope(client: Client) -> Outcome {
    assert_eq!(client.get("/admin").await, StatusCode::FORBIDDEN);
    assert_eq!(client.get("/orders").await, StatusCode::OK);

    assert_eq!(client.counts(), (2, 1));
    Outcome::Refused
}

async fn another_audience(client: Client) -> Outcome {
    assert_eq!(client.get("/orders").await, StatusCode::UNAUTHORIZED);
    assert_eq!(client.get("/orders").await, StatusCode::UNAUTHORIZED);

    // Another token is tried once, and then not before the cooldown is over.
    assert_eq!(client.counts(), (3, 2));
    Outcome::Refused
}

/// The API says by its 403 that another token would not help.
async fn forbidden_audience(client: Client) -> Outcome {
    assert_eq!(client.get("/orders").await, StatusCode::FORBIDDEN);
    assert_eq!(client.get("/orders").await, StatusCode::FORBIDDEN);

    assert_eq!(client.counts(), (2, 1));
    Outcome::Refused
}

async fn rejected_early(client: Client) -> Outcome {
    assert_eq!(client.get("/strict").await, StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(2100)).await;

    assert_eq!(client.get("/strict").await, StatusCode::OK);

    assert_eq!(client.counts(), (3, 2));
    Outcome::Passed
}

/// RFC 7009.
async fn revoke(endpoint: &str, token: &str) {
    let form = format!(
        "token={token}&client_id=basic&client_secret={}",
        SECRET.replace(' ', "+")
    );
    let request = Request::post(endpoint)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(form));
    let response = http(&Arc::default())
        .oneshot(request.unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}
