//! Answers that come while the request is still being uploaded.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::RETRY_AFTER};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, Either, Full};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, M2mLayer, RateLimitRetryLayer,
    rate_limit_retry::{GaveUp, GiveUpReason},
    replay::{ReplayBody, RequestBodyReplayLayer},
};

use crate::support::{API, SECOND, Source, layer};

const PIECE: usize = 1024;
const PIECES: usize = 200;
const BETWEEN: Duration = Duration::from_millis(10);

#[tokio::test(start_paused = true)]
async fn an_early_401_stops_the_upload_and_replays_it_completely() {
    for (name, client) in [
        ("limits", limits as fn(&Source, &Api) -> Client),
        ("both", both),
    ] {
        for status in [429, 503] {
            let api = Api::serving(status, false);

            let response = upload(&client(&Source::default(), &api)).await.unwrap();

            assert_eq!(response.status(), StatusCode::OK, "{name} {status}");
            let [first, second] = api.uploaded()[..] else {
                panic!("{name} {status}: {:?}", api.uploaded());
            };
            assert!(first < 10 * PIECE, "{name} {status}: {first} bytes");
            assert_eq!(second, PIECES * PIECE, "{name} {status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_401_with_a_hanging_body_is_still_replayed() {
    for (name, client) in [
        ("credentials", credentials as fn(&Source, &Api) -> Client),
        ("both", both),
        ("stacked", stacked),
    ] {
        let api = Api::serving(401, true);

        let response = upload(&client(&Source::default(), &api)).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK, "{name}");
        assert_eq!(api.uploaded().last(), Some(&(PIECES * PIECE)), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_beyond_the_limit_during_a_refresh_gets_the_401() {
    for (name, client) in [
        ("credentials", credentials as fn(&Source, &Api) -> Client),
        ("both", both),
        ("stacked", stacked),
    ] {
        let api = Api::serving(401, false);
        let source = Source::default().with_delay(SECOND);

        let response = upload(&client(&source, &api)).await.unwrap();

        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{name}");
        assert_eq!(source.fetches(), 2, "{name}");
        sleep(10 * SECOND).await;
        // The caller decides what happens to the upload once it has the response.
        assert_eq!(api.uploaded(), [PIECES * PIECE], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_beyond_the_limit_gets_the_servers_response() {
    for client in [limits as fn(&Source, &Api) -> Client, both] {
        let api = Api {
            delay: SECOND,
            ..Api::serving(429, false)
        };

        let response = upload(&client(&Source::default(), &api)).await.unwrap();

        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let gave_up = GaveUp::of(&response).unwrap();
        assert_eq!(gave_up.reason(), GiveUpReason::Body);
        assert_eq!(gave_up.retry_after(), Some(SECOND));
    }
}

type Sent = Request<ReplayBody<Pieces>>;
type Answer = Either<Full<Bytes>, Hangs>;
type Client = BoxCloneSyncService<Request<Pieces>, Response<Answer>, BoxError>;

fn limits(_: &Source, api: &Api) -> Client {
    wrapped(RateLimitRetryLayer::new().layer(api.service()))
}

fn credentials(source: &Source, api: &Api) -> Client {
    wrapped(layer(source).build().layer(api.service()))
}

fn both(source: &Source, api: &Api) -> Client {
    let both = M2mLayer::new(RateLimitRetryLayer::new(), layer(source).build());
    wrapped(both.layer(api.service()))
}

fn stacked(source: &Source, api: &Api) -> Client {
    let stack = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .layer(layer(source).build())
        .service(api.service());
    wrapped(stack)
}

fn wrapped<S>(service: S) -> Client
where
    S: Service<Sent, Response = Response<Answer>, Error = BoxError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    BoxCloneSyncService::new(RequestBodyReplayLayer::new().layer(service))
}

async fn upload(client: &Client) -> Result<Response<Answer>, BoxError> {
    let request = Request::builder().method(Method::PUT).uri(API);
    let request = request.body(Pieces(PIECES)).unwrap();
    client.clone().oneshot(request).await
}

/// Responds to the first request as soon as it has its head, or a little later, and continues reading it; then with
/// 200, when it has read everything.
#[derive(Clone)]
struct Api {
    status: StatusCode,
    hangs: bool,
    delay: Duration,
    uploaded: Arc<Mutex<Vec<usize>>>,
}

impl Api {
    fn serving(status: u16, hangs: bool) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap(),
            hangs,
            delay: Duration::ZERO,
            uploaded: Arc::default(),
        }
    }

    /// How many bytes of each request have been read.
    fn uploaded(&self) -> Vec<usize> {
        self.uploaded.lock().unwrap().clone()
    }

    fn service(
        &self,
    ) -> impl Service<Sent, Response = Response<Answer>, Error = BoxError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
    + use<> {
        let api = self.clone();
        service_fn(move |request: Sent| {
            let api = api.clone();
            async move { api.answer(request).await }
        })
    }

    async fn answer(self, request: Sent) -> Result<Response<Answer>, BoxError> {
        let number = {
            let mut uploaded = self.uploaded.lock().unwrap();
            uploaded.push(0);
            uploaded.len() - 1
        };
        let uploaded = Arc::clone(&self.uploaded);
        let reading = tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                uploaded.lock().unwrap()[number] += frame?.into_data().unwrap().len();
                sleep(BETWEEN).await;
            }
            Ok::<_, BoxError>(())
        });
        if number > 0 {
            reading.await??;
            return Ok(Response::new(Either::Left(Full::default())));
        }
        sleep(self.delay).await;
        let body = if self.hangs {
            Either::Right(Hangs)
        } else {
            Either::Left(Full::default())
        };
        let response = Response::builder().status(self.status);
        Ok(response.header(RETRY_AFTER, 1).body(body)?)
    }
}

/// A body of this many pieces, whose length is not known in advance.
struct Pieces(usize);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        let piece = || Bytes::from_static(&[0; PIECE]);
        Poll::Ready(left.map(|_| Ok(Frame::data(piece()))))
    }
}

/// A body that never comes.
struct Hangs;

impl HttpBody for Hangs {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}
