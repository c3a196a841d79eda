//! reqwest's client below the layers.

use std::fmt::Debug;

use axum::{Router, response::Redirect, routing::get};
use bytes::Bytes;
use compose::{credentials, issuer, limits};
use http::{
    HeaderMap, HeaderName, Request, Response, StatusCode,
    header::{AUTHORIZATION, LOCATION},
};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_m2m::{
    Attempts, BoxError, ClientAuth, ClientCredentialsLayer, ErrorClass, M2mLayer, TokenEndpoint,
    client_credentials::AccessToken,
    clients::ReqwestService,
    replay::RequestBodyReplayLayer,
    test_util::{Api, ApiFault, Issuer},
};

use crate::{
    deaf,
    http2_server::{Http2Server, REFUSED_STREAM, Reply},
    server::serve,
};

#[tokio::test]
async fn any_kind_of_body_is_sent() {
    let (issuer, api) = world().await;
    let both = M2mLayer::new(limits(), credentials(&issuer, &api.origin()).build());
    let client = ServiceBuilder::new().layer(both).service(service());
    check(&issuer, &api, client, || Full::from("ten bytes.")).await;

    let (issuer, api) = world().await;
    let client = ServiceBuilder::new()
        .layer(RequestBodyReplayLayer::new())
        .layer(limits())
        .layer(credentials(&issuer, &api.origin()).build())
        .service(service());
    let boxed = || Full::<Bytes>::from("ten bytes.").boxed_unsync();
    check(&issuer, &api, client, boxed).await;
}

#[tokio::test]
async fn reqwest_bodies_are_replayed() {
    let (issuer, api) = world().await;
    let client = ServiceBuilder::new()
        .layer(limits())
        .layer(credentials(&issuer, &api.origin()).build())
        .service(service());

    let own = || reqwest::Body::from("ten bytes.");
    check(&issuer, &api, client, own).await;
}

#[tokio::test]
async fn a_reqwest_stream_is_sent_once() {
    let (issuer, api) = world().await;
    let client = ServiceBuilder::new()
        .layer(limits())
        .layer(credentials(&issuer, &api.origin()).build())
        .service(service());
    api.next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 0));
    let body = reqwest::Body::wrap(Full::<Bytes>::from("ten bytes."));

    let response = client.oneshot(post(&api, body)).await.unwrap();

    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(lengths(&api), [10]);
}

#[tokio::test]
async fn reqwest_conversions_work_without_the_adapter() {
    let (issuer, api) = world().await;
    let none = reqwest::redirect::Policy::none();
    let http = reqwest::Client::builder().redirect(none).build().unwrap();
    let client = ServiceBuilder::new()
        .layer(limits())
        .layer(credentials(&issuer, &api.origin()).build())
        .filter(|request: Request<reqwest::Body>| reqwest::Request::try_from(request))
        .map_response(Response::<reqwest::Body>::from)
        .service(http);

    let own = || reqwest::Body::from("ten bytes.");
    check(&issuer, &api, client, own).await;
}

#[tokio::test]
async fn the_token_endpoint_is_reached() {
    let (issuer, _) = world().await;
    let auth = ClientAuth::basic("id", "secret");
    let endpoint = TokenEndpoint::new(issuer.token_url().parse().unwrap(), auth);
    let own = ClientCredentialsLayer::builder(
        endpoint.service(service()),
        issuer.origin().parse().unwrap(),
    );

    own.build().handle().prefetch().await.unwrap();

    assert_eq!(issuer.stats().issued, 1);
}

#[tokio::test]
async fn redirects_are_never_followed() {
    let (issuer, api) = world().await;
    let follow = reqwest::redirect::Policy::limited(10);
    let builder = reqwest::Client::builder().redirect(follow);
    let client = ServiceBuilder::new()
        .layer(credentials(&issuer, &api.origin()).build())
        .service(ReqwestService::new(builder).unwrap());
    api.next(ApiFault::Status {
        code: StatusCode::FOUND,
        headers: HeaderMap::from_iter([(LOCATION, "/there".parse().unwrap())]),
        body: Bytes::new(),
    });

    let request = Request::get(api.url()).body(Full::<Bytes>::default());
    let response = client.oneshot(request.unwrap()).await.unwrap();

    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(api.stats().requests, 1);
}

/// Redirects below the layers bypass them. This pins reqwest's default, for the guide `security`.
#[tokio::test]
async fn reqwest_strips_authorization_on_cross_host_redirects_and_keeps_other_headers() {
    for (header, kept) in [
        (AUTHORIZATION, false),
        (HeaderName::from_static("x-api-key"), true),
    ] {
        let name = header.clone();
        let carried =
            move |headers: HeaderMap| async move { headers.contains_key(&name).to_string() };
        let (there, _there) = serve(Router::new().route("/", get(carried.clone()))).await;
        let same = Router::new().route("/same", get(carried));
        let to = |place: String| get(|| async move { Redirect::temporary(&place) });
        let here = same
            .route("/", to("/same".into()))
            .route("/away", to(there));
        let (here, _here) = serve(here).await;
        let token = AccessToken::new("canary");
        let mut layer = ClientCredentialsLayer::builder(token, here.parse().unwrap());
        if header != AUTHORIZATION {
            layer = layer.header(header);
        }
        let client = ServiceBuilder::new()
            .layer(layer.build())
            .filter(|request: Request<reqwest::Body>| reqwest::Request::try_from(request))
            .map_response(Response::<reqwest::Body>::from)
            .service(reqwest::Client::new());

        for (path, expected) in [("/", true), ("/away", kept)] {
            let request = Request::get(format!("{here}{path}")).body(reqwest::Body::from(""));
            let response = client.clone().oneshot(request.unwrap()).await.unwrap();
            let text = reqwest::Response::from(response).text().await.unwrap();
            assert_eq!(text, expected.to_string(), "{path}");
        }
    }
}

#[tokio::test]
async fn refused_connections_are_classified_as_not_sent() {
    let request = Request::post(deaf().await).body(Full::<Bytes>::default());

    let error = service().oneshot(request.unwrap()).await.unwrap_err();

    assert_eq!(ErrorClass::of(&error), ErrorClass::NotSent);
}

#[tokio::test]
async fn refused_streams_are_classified_as_not_sent() {
    let server = Http2Server::start(&[Reply::Reset(REFUSED_STREAM); 8]).await;
    let builder = reqwest::Client::builder().http2_prior_knowledge();
    let service = ReqwestService::new(builder).unwrap();
    let request = Request::post(&server.url).body(Full::<Bytes>::from("ten bytes."));

    let error = service.oneshot(request.unwrap()).await.unwrap_err();

    assert_eq!(ErrorClass::of(&error), ErrorClass::NotSent, "{error:?}");
}

#[tokio::test]
async fn a_uri_without_a_host_is_an_error() {
    let request = Request::post("/orders").body(Full::<Bytes>::default());

    let error = service().oneshot(request.unwrap()).await.unwrap_err();

    assert!(error.is_builder(), "{error:?}");
}

/// Sends an ordinary request, one whose token was revoked, and one that is throttled.
async fn check<S, B, RB>(issuer: &Issuer, api: &Api, client: S, body: impl Fn() -> B)
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + Send + Debug,
    S::Future: Send + 'static,
    B: Send + 'static,
    RB: Body + Send + 'static,
    RB::Error: Debug,
{
    let send = || tokio::spawn(client.clone().oneshot(post(api, body())));

    let ordinary = send().await.unwrap().unwrap();
    issuer.revoke_all();
    let replayed = send().await.unwrap().unwrap();
    api.next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 0));
    let throttled = send().await.unwrap().unwrap();

    let attempts = [&ordinary, &replayed, &throttled].map(Attempts::of);
    assert_eq!(attempts, [1, 2, 2]);
    assert_eq!(lengths(api), [10; 5]);
    assert_eq!(issuer.stats().issued, 2);
    let answer = throttled.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer, r#"{"ok":true,"received":10}"#);
}

async fn world() -> (Issuer, Api) {
    let issuer = issuer().await;
    let api = Api::builder().tokens(issuer.tokens()).start().await;
    (issuer, api.unwrap())
}

fn service() -> ReqwestService {
    ReqwestService::new(reqwest::Client::builder()).unwrap()
}

fn post<B>(api: &Api, body: B) -> Request<B> {
    Request::post(api.url()).body(body).unwrap()
}

fn lengths(api: &Api) -> Vec<u64> {
    let requests = api.requests();
    requests.iter().map(|request| request.body_length).collect()
}
