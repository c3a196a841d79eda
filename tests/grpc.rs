//! Rejections in gRPC, in process on a paused clock. With tonic's server and channel: `tests/compose`.
#![expect(clippy::disallowed_methods, reason = "on the paused clock")]

mod support;

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_m2m::{
    Attempts, BoxError, M2mLayer, RateLimitRetryLayer,
    grpc::{GrpcStatusLayer, restore},
    rate_limit_retry::GaveUp,
};

use crate::support::{Body, Source, get, layer};

#[tokio::test(start_paused = true)]
async fn unauthenticated_in_headers_or_trailers_replaces_the_token() {
    for refusal in [
        Answer::head(&[UNAUTHENTICATED]),
        Answer::trailers(&[UNAUTHENTICATED]),
    ] {
        let source = Source::default();
        let both = M2mLayer::new(RateLimitRetryLayer::new(), layer(&source).build());
        let client = ServiceBuilder::new()
            .layer(both)
            .layer(GrpcStatusLayer::new())
            .service(server([refusal, Answer::message()]));

        let response = client.oneshot(get("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(Attempts::of(&response), 2);
        assert_eq!(source.fetches(), 2);
        assert_eq!(read(response).await, ("message".into(), Some("0".into())));
    }
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_quota_is_waited_for_as_retry_info_says() {
    for refusal in [
        Answer::head(&[EXHAUSTED, IN_1500_MS]),
        Answer::trailers(&[EXHAUSTED, IN_1500_MS]),
        Answer::trailers(&[EXHAUSTED, ("grpc-retry-pushback-ms", "1500")]),
    ] {
        let client = ServiceBuilder::new()
            .layer(RateLimitRetryLayer::new())
            .layer(GrpcStatusLayer::new())
            .service(server([refusal, Answer::message()]));
        let began = Instant::now();

        let response = client.oneshot(get("/")).await.unwrap();

        assert_eq!(Attempts::of(&response), 2);
        assert!(began.elapsed() >= Duration::from_millis(1500));
        assert!(began.elapsed() < Duration::from_secs(3));
    }
}

#[tokio::test(start_paused = true)]
async fn the_caller_gets_the_servers_last_response() {
    let refusals = [EXHAUSTED, ("grpc-retry-pushback-ms", "-1")];
    let client = ServiceBuilder::new()
        .map_response(restore)
        .layer(RateLimitRetryLayer::new())
        .layer(GrpcStatusLayer::new())
        .service(server([Answer::trailers(&refusals)]));

    let response = client.oneshot(get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert!(GaveUp::of(&response).is_some());
    assert_eq!(response.headers().len(), 1, "{:?}", response.headers());
    assert_eq!(read(response).await, (String::new(), Some("8".into())));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_has_started_is_not_inspected() {
    let begun = Answer {
        frames: vec![data("message"), trailers(&[UNAUTHENTICATED])],
        ..Answer::message()
    };

    let response = through(GrpcStatusLayer::new(), begun).await;

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(read(response).await, ("message".into(), Some("16".into())));
}

#[tokio::test(start_paused = true)]
async fn a_late_first_message_is_waited_for_up_to_max_time() {
    let late = || Answer {
        delay: Duration::from_secs(60),
        ..Answer::message()
    };
    for (layer, longest) in [
        (GrpcStatusLayer::new(), Duration::from_millis(50)),
        (
            GrpcStatusLayer::new().max_time(Duration::ZERO),
            Duration::ZERO,
        ),
    ] {
        let began = Instant::now();

        let response = through(layer, late()).await;

        // Timers go by milliseconds.
        assert!(began.elapsed() <= longest + Duration::from_millis(1));
        assert_eq!(read(response).await, ("message".into(), Some("0".into())));
        assert!(began.elapsed() >= Duration::from_secs(60));
    }
}

#[tokio::test(start_paused = true)]
async fn exhaustion_without_a_delay_is_a_429_only_if_enabled() {
    let layer = GrpcStatusLayer::new();
    let bare = || Answer::head(&[EXHAUSTED]);

    assert_eq!(through(layer, bare()).await.status(), StatusCode::OK);
    let any = layer.any_exhaustion(true);
    assert_eq!(
        through(any, bare()).await.status(),
        StatusCode::TOO_MANY_REQUESTS
    );
}

#[tokio::test(start_paused = true)]
async fn non_grpc_responses_are_unchanged() {
    let page = Answer {
        kind: "text/html",
        ..Answer::head(&[UNAUTHENTICATED])
    };
    let refused = Answer {
        status: StatusCode::SERVICE_UNAVAILABLE,
        ..Answer::head(&[UNAUTHENTICATED])
    };

    assert_eq!(
        through(GrpcStatusLayer::new(), page).await.status(),
        StatusCode::OK
    );
    let response = through(GrpcStatusLayer::new(), refused).await;
    assert_eq!(restore(response).status(), StatusCode::SERVICE_UNAVAILABLE);
}

async fn through(layer: GrpcStatusLayer, answer: Answer) -> Response<impl HttpBody<Data = Bytes>> {
    let client = layer.layer(server([answer]));
    client.oneshot(get("/")).await.unwrap()
}

/// The body's bytes, and the status in its trailers.
async fn read<B: HttpBody<Data = Bytes>>(response: Response<B>) -> (String, Option<String>) {
    let whole = response
        .into_body()
        .collect()
        .await
        .map_err(|_| ())
        .unwrap();
    let status = whole
        .trailers()
        .and_then(|fields| fields.get("grpc-status"));
    let status = status.map(|status| status.to_str().unwrap().to_owned());
    (String::from_utf8(whole.to_bytes().into()).unwrap(), status)
}

/// Gives one answer after the other.
fn server(
    answers: impl IntoIterator<Item = Answer>,
) -> impl tower::Service<Request<Body>, Response = Response<Frames>, Error = BoxError, Future: Send>
+ Clone
+ Send {
    let answers: VecDeque<_> = answers.into_iter().collect();
    let answers = Arc::new(Mutex::new(answers));
    service_fn(move |_: Request<Body>| {
        let answer = answers.lock().unwrap().pop_front();
        std::future::ready(
            answer
                .map(Answer::into_response)
                .ok_or("no answer left".into()),
        )
    })
}

type Field = (&'static str, &'static str);

struct Answer {
    status: StatusCode,
    kind: &'static str,
    head: HeaderMap,
    delay: Duration,
    frames: Vec<Frame<Bytes>>,
}

impl Answer {
    fn head(lines: &[Field]) -> Self {
        Self {
            head: fields(lines),
            frames: Vec::new(),
            ..Self::message()
        }
    }

    fn trailers(lines: &[Field]) -> Self {
        Self {
            frames: vec![trailers(lines)],
            ..Self::message()
        }
    }

    fn message() -> Self {
        Self {
            status: StatusCode::OK,
            kind: "application/grpc+proto",
            head: HeaderMap::new(),
            delay: Duration::ZERO,
            frames: vec![data("message"), trailers(&[("grpc-status", "0")])],
        }
    }

    fn into_response(self) -> Response<Frames> {
        let mut response = Response::new(Frames {
            delay: Box::pin(tokio::time::sleep(self.delay)),
            frames: self.frames.into(),
        });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.head;
        let kind = HeaderValue::from_static(self.kind);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

fn data(data: &'static str) -> Frame<Bytes> {
    Frame::data(data.into())
}

fn trailers(lines: &[Field]) -> Frame<Bytes> {
    Frame::trailers(fields(lines))
}

fn fields(lines: &[Field]) -> HeaderMap {
    let field = |line: &Field| {
        let name = HeaderName::from_static(line.0);
        (name, HeaderValue::from_static(line.1))
    };
    lines.iter().map(field).collect()
}

/// Frames that all arrive together, after a delay.
struct Frames {
    delay: Pin<Box<Sleep>>,
    frames: VecDeque<Frame<Bytes>>,
}

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::ready!(self.delay.as_mut().poll(cx));
        Poll::Ready(self.frames.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }
}

const UNAUTHENTICATED: Field = ("grpc-status", "16");
const EXHAUSTED: Field = ("grpc-status", "8");

/// A `google.rpc.RetryInfo` of a second and a half, as `google.rpc.Status`.
const IN_1500_MS: Field = (
    "grpc-status-details-bin",
    "CAgSBnNsb3dlchozCih0eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5ycGMuRXJyb3JJbmZvEgcKBVFVT1RBGjYKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5SZXRyeUluZm8SCgoICAEQwcX47QE",
);
