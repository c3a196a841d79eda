//! octocrab on top of the layers.

use compose::{credentials, issuer, limits};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use octocrab::{
    AuthState, OctoBody, Octocrab, OctocrabBuilder, service::middleware::base_uri::BaseUriLayer,
};
use serde_json::{Value, json};
use tower::ServiceBuilder;
use tower_m2m::{
    replay::RequestBodyReplayLayer,
    test_util::{Api, ApiFault, Issuer},
};

const ISSUES: &str = "/repos/tower-m2m/tower-m2m/issues";

#[tokio::test]
async fn issues_are_read_and_written_through_a_custom_stack() {
    let (issuer, github) = world().await;
    let stack = ServiceBuilder::new()
        .layer(BaseUriLayer::new(github.origin().parse().unwrap()))
        .layer(RequestBodyReplayLayer::new())
        .layer(limits())
        .layer(credentials(&issuer, &github.origin()).build())
        .service(Client::builder(TokioExecutor::new()).build_http());
    let builder = OctocrabBuilder::new_empty().with_service(stack);

    let Ok(client) = builder.with_auth(AuthState::None).build();
    check(&issuer, &github, client).await;
}

#[tokio::test]
async fn issues_are_read_and_written_through_layers_above_the_service() {
    let (issuer, github) = world().await;
    let http: Client<HttpConnector, OctoBody> = Client::builder(TokioExecutor::new()).build_http();
    let layers = ServiceBuilder::new()
        .layer(BaseUriLayer::new(github.origin().parse().unwrap()))
        .layer(RequestBodyReplayLayer::new())
        .layer(limits())
        .layer(credentials(&issuer, &github.origin()).build())
        .map_request(|request: Request<_>| request.map(OctoBody::new))
        .into_inner();
    let builder = OctocrabBuilder::new_empty()
        .with_service(http)
        .with_layer(&layers);

    let Ok(client) = builder.with_auth(AuthState::None).build();
    check(&issuer, &github, client).await;
}

/// An ordinary request, one whose token was revoked, and one that is throttled as GitHub does.
async fn check(issuer: &Issuer, github: &Api, client: Octocrab) {
    let title = json!({"title": "one"});

    let listed: Value = client.get(ISSUES, None::<&()>).await.unwrap();
    issuer.revoke_all();
    let created: Value = client.post(ISSUES, Some(&title)).await.unwrap();
    github.next(ApiFault::retry_after(StatusCode::FORBIDDEN, 0));
    let _: Value = client.get(ISSUES, None::<&()>).await.unwrap();

    assert_eq!(listed, json!([title]));
    assert_eq!(created, title);
    let requests = github.requests();
    let methods: Vec<_> = requests
        .iter()
        .map(|request| request.method.as_str())
        .collect();
    assert_eq!(methods, ["GET", "POST", "POST", "GET", "GET"]);
    assert!(
        requests
            .iter()
            .all(|request| request.authorization().is_some())
    );
    assert_eq!(requests[1].body_length, requests[2].body_length);
    assert_eq!(issuer.stats().issued, 2);
}

/// A repository with one issue, to which any other can be added.
async fn world() -> (Issuer, Api) {
    let issuer = issuer().await;
    let github = Api::builder()
        .tokens(issuer.tokens())
        .route(Method::GET, ISSUES, |_| {
            Response::new(Full::from(json!([{"title": "one"}]).to_string()))
        })
        .route(Method::POST, ISSUES, |request| {
            Response::new(Full::from(request.body().clone()))
        });
    (issuer, github.start().await.unwrap())
}
