//! axum on both sides: a handler that calls upstream through the layers, and a router below them.

use axum::{
    Router,
    body::{Body, to_bytes},
    error_handling::HandleErrorLayer,
    extract::State,
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use compose::{credentials, http, issuer, limits};
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_m2m::{
    Attempts, BoxError, M2mLayer,
    replay::{ReplayBody, RequestBodyReplayLayer},
    stack::M2m,
    test_util::{Api, ApiFault},
};

use crate::server::{guarded, serve};

/// The upstream of a handler, by its name.
type Upstream = M2m<Client<HttpConnector, Full<Bytes>>>;

#[derive(Clone)]
struct App {
    upstream: Upstream,
    url: String,
}

async fn orders(State(app): State<App>) -> Result<Response, StatusCode> {
    let request = Request::get(app.url).body(Full::default());
    let request = request.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    match app.upstream.oneshot(request).await {
        Ok(response) => Ok(response.map(Body::new)),
        Err(_) => Err(StatusCode::BAD_GATEWAY),
    }
}

#[tokio::test]
async fn a_handler_calls_upstream() {
    let issuer = issuer().await;
    let api = Api::builder()
        .tokens(issuer.tokens())
        .start()
        .await
        .unwrap();
    let both = M2mLayer::new(limits(), credentials(&issuer, &api.origin()).build());
    let app = App {
        upstream: both.layer(http()),
        url: api.url(),
    };
    let (url, _server) = serve(Router::new().route("/", get(orders)).with_state(app)).await;
    api.next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 0));

    let request = Request::get(url).body(Full::default()).unwrap();
    let response = http().oneshot(request).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer, r#"{"ok":true,"received":0}"#);
    assert_eq!(api.stats().requests, 2);
    assert_eq!(issuer.stats().issued, 1);
}

#[tokio::test]
async fn a_handler_forwards_a_streamed_body() {
    type Upstream = M2m<Client<HttpConnector, ReplayBody<Body>>>;
    async fn pass_on(State((upstream, url)): State<(Upstream, String)>, body: Body) -> Response {
        let upstream = RequestBodyReplayLayer::new().layer(upstream);
        let request = Request::post(url).body(body).unwrap();
        upstream.oneshot(request).await.unwrap().map(Body::new)
    }
    let issuer = issuer().await;
    let api = Api::builder()
        .tokens(issuer.tokens())
        .start()
        .await
        .unwrap();
    let both = M2mLayer::new(limits(), credentials(&issuer, &api.origin()).build());
    let client = Client::builder(TokioExecutor::new()).build_http();
    let state = (both.layer(client), api.url());
    let (url, _server) = serve(Router::new().route("/", post(pass_on)).with_state(state)).await;
    api.next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 0));

    let request = Request::post(url).body(Full::from("ten bytes.")).unwrap();
    let response = http().oneshot(request).await.unwrap();

    let answer = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer, r#"{"ok":true,"received":10}"#);
    assert_eq!(api.stats().requests, 2);
}

#[tokio::test]
async fn a_stack_can_be_mounted_as_a_route() {
    let issuer = issuer().await;
    let api = Api::builder()
        .tokens(issuer.tokens())
        .start()
        .await
        .unwrap();
    let both = M2mLayer::new(limits(), credentials(&issuer, &api.origin()).build());
    let (origin, client) = (api.origin(), Client::builder(TokioExecutor::new()));
    let stack = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(async |_: BoxError| {
            StatusCode::BAD_GATEWAY
        }))
        .map_request(move |mut request: Request<Body>| {
            let uri = format!("{origin}{}", request.uri().path());
            *request.uri_mut() = uri.parse().unwrap();
            request.headers_mut().remove(HOST);
            request
        })
        .layer(RequestBodyReplayLayer::new())
        .layer(both)
        .service(client.build_http());

    // A route of a router, and all that a server does.
    let route = Router::new().route_service("/orders", stack.clone());
    let served = [
        serve(route).await,
        serve(axum::ServiceExt::<Request<Body>>::into_make_service(stack)).await,
    ];
    for (url, _) in &served {
        api.next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 0));
        let request = Request::post(format!("{url}/orders")).body(Full::from("ten bytes."));
        let response = http().oneshot(request.unwrap()).await.unwrap();

        let answer = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(answer, r#"{"ok":true,"received":10}"#);
    }
    assert_eq!(api.stats().requests, 4);
    assert_eq!(issuer.stats().issued, 1);
}

#[tokio::test]
async fn a_router_can_be_called_in_process() {
    let issuer = issuer().await;
    let router = Router::new().route("/echo", post(|body: Bytes| async { body }));
    let origin = "https://in-process.example";
    let credentials = credentials(&issuer, origin).assume_origin(origin.parse().unwrap());
    let client = ServiceBuilder::new()
        .layer(limits())
        .layer(credentials.build())
        .service(guarded(router, issuer.tokens()));
    let echo = || {
        Request::post("/echo")
            .body(Full::<Bytes>::from("ten bytes."))
            .unwrap()
    };

    let first = client.clone().oneshot(echo()).await.unwrap();
    issuer.revoke_all();
    let second = tokio::spawn(client.oneshot(echo())).await.unwrap().unwrap();

    assert_eq!([&first, &second].map(Attempts::of), [1, 2]);
    let answer = to_bytes(second.into_body(), usize::MAX).await.unwrap();
    assert_eq!(answer, "ten bytes.");
    assert_eq!(issuer.stats().issued, 2);
}
