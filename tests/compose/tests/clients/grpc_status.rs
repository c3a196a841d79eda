//! Rejections in `grpc-status`, between tonic's server and tonic's channel.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    body::Body as ServerBody,
    extract::Request as ServerRequest,
    middleware::{Next, from_fn},
    response::Response,
};
use bytes::Bytes;
use compose::{credentials, issuer, limits};
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt, Full};
use tonic::{
    Code, Status,
    body::Body,
    client::Grpc,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_prost::ProstCodec;
use tonic_types::{ErrorDetails, StatusExt};
use tower::{Service, ServiceBuilder};
use tower_m2m::{
    BoxError, M2mLayer, grpc::GrpcStatusLayer, replay::RequestBodyReplayLayer, test_util::Issuer,
};

use crate::server::{Served, serve};

#[tokio::test]
async fn a_unary_call_with_a_rejected_token_is_replayed() {
    for in_trailers in [false, true] {
        let world = World::start(in_trailers).await;
        let mut client = HealthClient::new(world.stack());
        client.check(HealthCheckRequest::default()).await.unwrap();
        world.issuer.revoke_all();

        let answer = client.check(HealthCheckRequest::default()).await.unwrap();

        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
        assert_eq!(world.calls(), 3);
        assert_eq!(world.issuer.stats().issued, 2);
    }
}

#[tokio::test]
async fn an_unauthenticated_stream_is_replayed() {
    for in_trailers in [false, true] {
        let world = World::start(in_trailers).await;
        let mut client = HealthClient::new(world.stack());
        client.check(HealthCheckRequest::default()).await.unwrap();
        world.issuer.revoke_all();

        let answers = client.watch(HealthCheckRequest::default()).await.unwrap();

        let first = answers.into_inner().message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
        assert_eq!(world.calls(), 3);
    }
}

#[tokio::test]
async fn a_stream_that_has_started_is_not_replayed() {
    let world = World::start(false).await;
    world.next(unauthenticated_after_message);
    let mut client = HealthClient::new(world.stack());

    let answers = client.watch(HealthCheckRequest::default()).await.unwrap();

    let mut answers = answers.into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let end = answers.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unauthenticated);
    assert_eq!(world.calls(), 1);
    assert_eq!(world.issuer.stats().issued, 1);
}

#[tokio::test]
async fn an_exhausted_quota_is_waited_for() {
    for in_trailers in [false, true] {
        let world = World::start(in_trailers).await;
        world.next(|in_trailers| {
            unauthenticated(&exhausted(Some(Duration::from_millis(1))), in_trailers)
        });
        let mut client = HealthClient::new(world.stack());

        let answer = client.check(HealthCheckRequest::default()).await.unwrap();

        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
        assert_eq!(world.calls(), 2);
    }
}

#[tokio::test]
async fn errors_beyond_max_wait_are_returned_unchanged() {
    for (wait, calls) in [(None, 1), (Some(Duration::from_secs(86_400)), 1)] {
        let world = World::start(true).await;
        world.next(move |in_trailers| unauthenticated(&exhausted(wait), in_trailers));
        let mut client = HealthClient::new(world.stack());

        let refused = client.check(HealthCheckRequest::default()).await;

        let status = refused.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "too many calls");
        let info = status.get_details_retry_info();
        assert_eq!(info.and_then(|info| info.retry_delay), wait);
        assert_eq!(world.calls(), calls);
    }
}

#[tokio::test]
async fn bidirectional_streams_do_not_deadlock() {
    let world = World::start(false).await;
    world.next_echo();
    let mut grpc = Grpc::new(world.stack());
    grpc.ready().await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let sent = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let path = "/grpc.health.v1.Health/Echo".parse().unwrap();
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();

    // Answered before anything was sent, and nothing is answered before more is sent.
    let answers = grpc.streaming(tonic::Request::new(sent), path, codec).await;

    let mut answers = answers.unwrap().into_inner();
    let message = |service: &str| HealthCheckRequest {
        service: service.into(),
    };
    for name in ["one", "two"] {
        sender.send(message(name)).await.unwrap();
        assert_eq!(answers.message().await.unwrap(), Some(message(name)));
    }
    drop(sender);
    assert_eq!(answers.message().await.unwrap(), None);
}

/// With a message of a second and a half's wait, if there is one.
fn exhausted(wait: Option<Duration>) -> Status {
    let details = match wait {
        Some(wait) => ErrorDetails::with_retry_info(Some(wait)),
        None => ErrorDetails::new(),
    };
    Status::with_error_details(Code::ResourceExhausted, "too many calls", details)
}

/// As tonic sends it, or with the status in trailers, as servers do that have sent the head before.
fn unauthenticated(status: &Status, in_trailers: bool) -> Response {
    let (mut head, body) = status.clone().into_http::<Body>().into_parts();
    if !in_trailers {
        return Response::from_parts(head, ServerBody::new(body));
    }
    let mut trailers = HeaderMap::new();
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        if let Some(value) = head.headers.remove(name) {
            trailers.insert(name, value);
        }
    }
    Response::from_parts(head, with_trailers(ServerBody::empty(), trailers))
}

/// A message, followed by a rejection.
fn unauthenticated_after_message(_: bool) -> Response {
    // `HealthCheckResponse { status: Serving }`, with its length.
    let serving = Full::new(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]));
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(16))]);
    grpc(with_trailers(ServerBody::new(serving), trailers))
}

fn with_trailers(body: ServerBody, trailers: HeaderMap) -> ServerBody {
    ServerBody::new(body.with_trailers(async { Some(Ok(trailers)) }))
}

fn grpc(body: ServerBody) -> Response {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

type Answer = Box<dyn FnOnce(bool, ServerRequest) -> Response + Send>;

/// A health service that checks tokens itself: its rejections are 200 responses with a `grpc-status`.
struct World {
    issuer: Issuer,
    url: String,
    calls: Arc<AtomicUsize>,
    /// What the next calls meet.
    next: Arc<Mutex<VecDeque<Answer>>>,
    _server: Served,
}

impl World {
    async fn start(in_trailers: bool) -> Self {
        let issuer = issuer().await;
        let tokens = issuer.tokens();
        let calls = Arc::<AtomicUsize>::default();
        let next = Arc::<Mutex<VecDeque<Answer>>>::default();
        let (counter, answers) = (Arc::clone(&calls), Arc::clone(&next));
        let check = move |request: ServerRequest, service: Next| {
            counter.fetch_add(1, SeqCst);
            let value = request.headers().get(header::AUTHORIZATION);
            let token = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            let valid = token.is_some_and(|token| tokens.is_valid(token));
            let answer = answers.lock().unwrap().pop_front();
            async move {
                match answer {
                    _ if !valid => {
                        unauthenticated(&Status::unauthenticated("no valid token"), in_trailers)
                    }
                    Some(answer) => answer(in_trailers, request),
                    None => service.run(request).await,
                }
            }
        };
        let (_, health) = tonic_health::server::health_reporter();
        let router = Routes::new(health).into_axum_router().layer(from_fn(check));
        let (url, server) = serve(router).await;
        Self {
            issuer,
            url,
            calls,
            next,
            _server: server,
        }
    }

    fn next(&self, answer: impl FnOnce(bool) -> Response + Send + 'static) {
        let answer: Answer = Box::new(move |in_trailers, _| answer(in_trailers));
        self.next.lock().unwrap().push_back(answer);
    }

    fn next_echo(&self) {
        let ok = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(0))]);
        let echo: Answer = Box::new(|_, request| grpc(with_trailers(request.into_body(), ok)));
        self.next.lock().unwrap().push_back(echo);
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    fn stack(
        &self,
    ) -> impl Service<
        Request<Body>,
        Response = http::Response<
            impl http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
        >,
        Error = BoxError,
        Future: Send,
    > + Clone {
        let credentials = credentials(&self.issuer, &self.url);
        let credentials = credentials.assume_origin(self.url.parse().unwrap());
        let channel: Channel = Endpoint::new(self.url.clone()).unwrap().connect_lazy();
        ServiceBuilder::new()
            .layer(RequestBodyReplayLayer::new())
            .layer(M2mLayer::new(limits(), credentials.build()))
            .map_request(|request: Request<_>| request.map(Body::new))
            .layer(GrpcStatusLayer::new())
            .service(channel)
    }
}
