//! tonic's channel below the layers.

use compose::{credentials, issuer, limits};
use http::Request;
use tonic::{
    body::Body,
    service::Routes,
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
    http2_server::{Http2Server, NO_ERROR, REFUSED_STREAM, Reply},
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
    assert_eq!(server.issuer.stats().issued, 1);
}

#[tokio::test]
async fn a_unary_call_with_a_rejected_token_is_retried() {
    let server = GrpcServer::start().await;
    let both = M2mLayer::new(limits(), server.credentials());
    let tokens = both.handle().tokens();
    let mut client = HealthClient::new(
        ServiceBuilder::new()
            .layer(RequestBodyReplayLayer::new())
            .layer(both)
            .map_request(|request: Request<_>| request.map(Body::new))
            .service(server.channel()),
    );
    tokens.prefetch().await.unwrap();
    server.issuer.revoke_all();

    let answer = client.check(HealthCheckRequest::default()).await.unwrap();

    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    assert_eq!(server.issuer.stats().issued, 2);
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
    assert_eq!(server.issuer.stats().requests, 0);
}

#[tokio::test]
async fn a_client_may_set_the_origin() {
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
async fn refused_connections_are_classified_as_not_sent() {
    let channel = Endpoint::new(deaf().await).unwrap().connect_lazy();

    let error = channel
        .oneshot(Request::new(Body::empty()))
        .await
        .unwrap_err();

    assert_eq!(ErrorClass::of(&error), ErrorClass::NotSent);
}

#[tokio::test]
async fn refused_streams_are_classified_as_not_sent() {
    for reply in [Reply::Reset(REFUSED_STREAM), Reply::GoAway(NO_ERROR)] {
        let server = Http2Server::start(&[reply; 8]).await;
        let channel = Endpoint::new(server.url.clone()).unwrap().connect_lazy();
        let request = Request::post("/health").body(Body::empty()).unwrap();

        let error = channel.oneshot(request).await.unwrap_err();

        assert_eq!(ErrorClass::of(&error), ErrorClass::NotSent, "{error:?}");
    }
}

/// A health service behind a gateway that checks tokens.
struct GrpcServer {
    issuer: Issuer,
    url: String,
    _server: Served,
}

impl GrpcServer {
    async fn start() -> Self {
        let issuer = issuer().await;
        let (_, health) = tonic_health::server::health_reporter();
        let router = Routes::new(health).into_axum_router();
        let router = guarded(router, issuer.tokens());
        let (url, server) = serve(router).await;
        Self {
            issuer,
            url,
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
