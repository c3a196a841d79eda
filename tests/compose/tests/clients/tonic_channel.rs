//! tonic's channel below the layers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use compose::{credentials, issuer, limits};
use http::{Request, Response, StatusCode};
use tonic::{
    Code, Status,
    body::Body,
    service::{Routes, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::{ServiceBuilder, ServiceExt};
use tower_m2m::{
    ClientCredentialsLayer, ErrorClass, M2mLayer, replay::RequestBodyReplayLayer, test_util::Issuer,
};

use crate::{
    deaf,
    server::{Served, guarded, serve},
};

#[tokio::test]
async fn a_unary_call_carries_the_token() {
    let server = GrpcServer::start().await;
    let mut client = HealthClient::new(
        ServiceBuilder::new()
            .layer(RequestBodyReplayLayer::new())
            .layer(limits())
            .layer(server.credentials())
            .map_request(|request: Request<_>| request.map(Body::new))
            .service(server.channel()),
    );

    let answer = client.check(HealthCheckRequest::default()).await.unwrap();

    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    assert_eq!(server.issuer.seen().issued, 1);
}

#[tokio::test]
async fn a_unary_call_whose_token_was_refused_is_sent_again() {
    let server = GrpcServer::start().await;
    let both = M2mLayer::new(limits(), server.credentials());
    let tokens = both.tokens();
    let mut client = HealthClient::new(
        ServiceBuilder::new()
            .layer(RequestBodyReplayLayer::new())
            .layer(both)
            .map_request(|request: Request<_>| request.map(Body::new))
            .service(server.channel()),
    );
    tokens.warm().await.unwrap();
    server.issuer.revoke_all();

    let answer = client.check(HealthCheckRequest::default()).await.unwrap();

    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    assert_eq!(server.issuer.seen().issued, 2);
}

#[tokio::test]
async fn a_refusal_in_a_responses_head_can_be_made_a_401() {
    let server = GrpcServer::start_without_gateway().await;
    let both = M2mLayer::new(limits(), server.credentials());
    let tokens = both.tokens();
    let mut client = HealthClient::new(
        ServiceBuilder::new()
            .layer(RequestBodyReplayLayer::new())
            .layer(both)
            .map_request(|request: Request<_>| request.map(Body::new))
            .map_response(with_status)
            .service(server.channel()),
    );
    tokens.warm().await.unwrap();
    server.issuer.revoke_all();

    let answer = client.check(HealthCheckRequest::default()).await.unwrap();

    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    assert_eq!(server.issuer.seen().issued, 2);
    server.issuer.revoke_all();
    let refused = client.check(HealthCheckRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_exhausted_quota_in_a_responses_head_can_be_made_a_429() {
    let server = GrpcServer::start_without_gateway().await;
    let mut client = HealthClient::new(
        ServiceBuilder::new()
            .layer(RequestBodyReplayLayer::new())
            .layer(limits())
            .layer(server.credentials())
            .map_request(|request: Request<_>| request.map(Body::new))
            .map_response(with_status)
            .service(server.channel()),
    );
    server.throttle.store(true, SeqCst);

    let answer = client.check(HealthCheckRequest::default()).await.unwrap();

    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    assert!(!server.throttle.load(SeqCst));
}

#[tokio::test]
async fn without_an_assumed_origin_nothing_is_sent() {
    let server = GrpcServer::start().await;
    let refusing = credentials(&server.issuer, &server.url).build();
    let mut client = HealthClient::new(
        ServiceBuilder::new()
            .layer(RequestBodyReplayLayer::new())
            .layer(refusing)
            .map_request(|request: Request<_>| request.map(Body::new))
            .service(server.channel()),
    );

    let status = client
        .check(HealthCheckRequest::default())
        .await
        .unwrap_err();

    assert!(status.to_string().contains("assume_origin"), "{status}");
    assert_eq!(server.issuer.seen().token_requests, 0);
}

#[tokio::test]
async fn a_client_may_name_the_origin_itself() {
    let server = GrpcServer::start().await;
    let strict = credentials(&server.issuer, &server.url).build();
    let stack = ServiceBuilder::new()
        .layer(RequestBodyReplayLayer::new())
        .layer(strict)
        .map_request(|request: Request<_>| request.map(Body::new))
        .service(server.channel());
    let mut client = HealthClient::with_origin(stack, server.url.parse().unwrap());

    let answer = client.check(HealthCheckRequest::default()).await.unwrap();

    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn its_refused_connections_are_known_not_to_have_been_sent() {
    let channel = Endpoint::new(deaf().await).unwrap().connect_lazy();

    let error = channel
        .oneshot(Request::new(Body::empty()))
        .await
        .unwrap_err();

    assert_eq!(ErrorClass::of(&error), ErrorClass::NotSent);
}

/// As in the guide.
fn with_status(mut response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()).map(|status| status.code()) {
        Some(Code::Unauthenticated) => *response.status_mut() = StatusCode::UNAUTHORIZED,
        Some(Code::ResourceExhausted) => *response.status_mut() = StatusCode::TOO_MANY_REQUESTS,
        _ => {}
    }
    response
}

/// A health service behind a gateway that checks tokens.
struct GrpcServer {
    issuer: Issuer,
    url: String,
    /// Refuse the next call for its quota.
    throttle: Arc<AtomicBool>,
    _server: Served,
}

impl GrpcServer {
    async fn start() -> Self {
        let issuer = issuer().await;
        let (_, health) = tonic_health::server::health_reporter();
        let router = Routes::new(health).into_axum_router();
        let router = guarded(router, issuer.tokens());
        Self::serving(issuer, router, Arc::default()).await
    }

    /// The service checks tokens itself: what it refuses is answered with 200, and the refusal in `grpc-status`.
    async fn start_without_gateway() -> Self {
        let issuer = issuer().await;
        let (_, health) = tonic_health::server::health_reporter();
        let tokens = issuer.tokens();
        let throttle = Arc::<AtomicBool>::default();
        let throttled = Arc::clone(&throttle);
        let check = move |call: tonic::Request<()>| {
            let value = call.metadata().get("authorization");
            let token = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            if throttled.swap(false, SeqCst) {
                return Err(Status::resource_exhausted("too many calls"));
            }
            if token.is_some_and(|token| tokens.is_valid(token)) {
                return Ok(call);
            }
            Err(Status::unauthenticated("no valid token"))
        };
        let router = Routes::new(InterceptedService::new(health, check)).into_axum_router();
        Self::serving(issuer, router, throttle).await
    }

    async fn serving(issuer: Issuer, router: axum::Router, throttle: Arc<AtomicBool>) -> Self {
        let (url, server) = serve(router).await;
        Self {
            issuer,
            url,
            throttle,
            _server: server,
        }
    }

    fn credentials(&self) -> ClientCredentialsLayer {
        credentials(&self.issuer, &self.url)
            .assume_origin(self.url.parse().unwrap())
            .build()
    }

    fn channel(&self) -> Channel {
        Endpoint::new(self.url.clone()).unwrap().connect_lazy()
    }
}
