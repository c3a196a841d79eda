//! The layers above and below those of tower and tower-http, over hyper-util's client, with every kind of body: run on
//! loopback, once as two layers and once as one.

use std::{
    collections::VecDeque,
    fmt::Debug,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::LOCATION};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;
use tower::{
    Service, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer,
    retry::{Policy, RetryLayer},
    timeout::TimeoutLayer,
    util::BoxCloneSyncService,
};
use tower_http::{follow_redirect::FollowRedirectLayer, trace::TraceLayer};
use tower_m2m::{
    Attempts, Backoff, BoxError, ClientAuth, ClientCredentialsLayer, ErrorClass, M2mLayer,
    RateLimitRetryLayer, TokenEndpoint,
    replay::{CloneWith, Once, RequestBodyReplayLayer},
    test_util::{Api, ApiFault, Issuer},
};

const DATA: &str = "ten bytes.";
const MINUTE: Duration = Duration::from_secs(60);

/// Two tests of one stack: `$ours` is the pair of layers, then the combined one.
macro_rules! composes {
    ($name:ident: $body:expr, |$ours:ident| $stack:expr) => {
        mod $name {
            use super::*;

            #[tokio::test]
            async fn with_two_layers() {
                let world = World::start().await;
                let $ours = (limits(), world.credentials());
                world.check($stack, || $body).await;
            }

            #[tokio::test]
            async fn with_both_as_one() {
                let world = World::start().await;
                let $ours = M2mLayer::new(limits(), world.credentials());
                world.check($stack, || $body).await;
            }
        }
    };
}

composes!(an_empty_body: Empty::<Bytes>::new(), |ours| {
    ServiceBuilder::new().layer(ours).service(http1())
});

composes!(a_full_body: full(), |ours| ServiceBuilder::new().layer(ours).service(http1()));

composes!(a_boxed_body: BoxBody::new(full()), |ours| {
    ServiceBuilder::new().layer(RequestBodyReplayLayer::new()).layer(ours).service(http1())
});

composes!(an_unsync_boxed_body: full().boxed_unsync(), |ours| {
    ServiceBuilder::new().layer(RequestBodyReplayLayer::new()).layer(ours).service(http1())
});

composes!(a_streaming_body: Chunks::new(), |ours| {
    ServiceBuilder::new().layer(RequestBodyReplayLayer::new()).layer(ours).service(http1())
});

composes!(a_body_that_can_copy_itself: Chunks::new(), |ours| {
    ServiceBuilder::new()
        .map_request(|request: Request<Chunks>| {
            request.map(|body| CloneWith::new(body, Chunks::try_clone))
        })
        .layer(ours)
        .map_request(|request: Request<CloneWith<Chunks>>| request.map(CloneWith::into_inner))
        .service(http1())
});

composes!(a_client_that_speaks_http2: Chunks::new(), |ours| {
    let http = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    ServiceBuilder::new().layer(RequestBodyReplayLayer::new()).layer(ours).service(http)
});

composes!(a_buffer_above: full(), |ours| {
    ServiceBuilder::new().layer(BufferLayer::new(8)).layer(ours).service(http1())
});

composes!(a_buffer_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(BufferLayer::new(8)).service(http1())
});

// One permit: a second send in one call needs the permit of the first.
composes!(a_concurrency_limit_above: full(), |ours| {
    ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).layer(ours).service(http1())
});

composes!(a_concurrency_limit_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(ConcurrencyLimitLayer::new(1)).service(http1())
});

composes!(a_timeout_above: full(), |ours| {
    ServiceBuilder::new().layer(TimeoutLayer::new(MINUTE)).layer(ours).service(http1())
});

composes!(a_timeout_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(TimeoutLayer::new(MINUTE)).service(http1())
});

composes!(a_load_shed_above: full(), |ours| {
    ServiceBuilder::new().layer(LoadShedLayer::new()).layer(ours).service(http1())
});

composes!(a_load_shed_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(LoadShedLayer::new()).service(http1())
});

composes!(a_retry_above: full(), |ours| {
    ServiceBuilder::new().layer(RetryLayer::new(OnceMore(1))).layer(ours).service(http1())
});

composes!(a_retry_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(RetryLayer::new(OnceMore(1))).service(http1())
});

composes!(a_box_above: full(), |ours| {
    ServiceBuilder::new().layer(BoxCloneSyncService::layer()).layer(ours).service(http1())
});

composes!(a_box_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(BoxCloneSyncService::layer()).service(http1())
});

composes!(a_trace_above: full(), |ours| {
    ServiceBuilder::new().layer(TraceLayer::new_for_http()).layer(ours).service(http1())
});

composes!(a_trace_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(TraceLayer::new_for_http()).service(http1())
});

composes!(a_redirect_follower_above: full(), |ours| {
    ServiceBuilder::new().layer(FollowRedirectLayer::new()).layer(ours).service(http1())
});

composes!(a_redirect_follower_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(FollowRedirectLayer::new()).service(http1())
});

composes!(every_layer_in_the_order_that_the_guide_names: Chunks::new(), |ours| {
    ServiceBuilder::new()
        .layer(TimeoutLayer::new(MINUTE))
        .layer(RequestBodyReplayLayer::new())
        .layer(BoxCloneSyncService::layer())
        .layer(ours)
        .layer(TraceLayer::new_for_http())
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(TimeoutLayer::new(MINUTE))
        .layer(BufferLayer::new(8))
        .service(http1())
});

#[tokio::test]
async fn a_body_that_is_sent_once_reaches_the_api() {
    let world = World::start().await;
    let ours = M2mLayer::new(limits(), world.credentials());
    let client = ServiceBuilder::new().layer(ours).service(http1());
    let request = Request::post(world.api.url()).body(Once::new(Chunks::new()));

    let response = client.oneshot(request.unwrap()).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(world.lengths(), [DATA.len()]);
}

#[tokio::test]
async fn each_hop_of_a_redirect_carries_a_token() {
    let world = World::start().await;
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer((limits(), world.credentials()))
        .service(http1());
    let found = HeaderMap::from_iter([(LOCATION, "/there".parse().unwrap())]);
    world.api.next(ApiFault::Status {
        code: StatusCode::TEMPORARY_REDIRECT,
        headers: found,
        body: Bytes::new(),
    });
    let request = Request::get(world.api.url()).body(Empty::<Bytes>::new());

    let response = client.oneshot(request.unwrap()).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    let requests = world.api.requests();
    let paths: Vec<_> = requests.iter().map(|request| &*request.path).collect();
    assert_eq!(paths, ["/", "/there"]);
    assert!(requests.iter().all(|request| request.has_authorization));
}

#[tokio::test]
async fn a_retry_above_sends_again_what_this_crate_does_not() {
    let world = World::start().await;
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(OnceMore(1)))
        .layer((limits(), world.credentials()))
        .service(http1());
    let fault = ApiFault::status(StatusCode::INTERNAL_SERVER_ERROR);
    world.api.next(fault);
    let request = Request::post(world.api.url()).body(full());

    let response = client.oneshot(request.unwrap()).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(world.lengths(), [DATA.len(), DATA.len()]);
}

#[tokio::test]
async fn a_refused_connection_is_recognised_through_other_layers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = ServiceBuilder::new()
        .layer(BoxCloneSyncService::layer())
        .layer(TraceLayer::new_for_http())
        .layer(TimeoutLayer::new(MINUTE))
        .layer(LoadShedLayer::new())
        .layer(BufferLayer::new(8))
        .service(http1());
    let request = Request::post(format!("http://{address}/")).body(full());

    let error: BoxError = client
        .oneshot(request.unwrap())
        .await
        .map(drop)
        .unwrap_err();

    assert_eq!(ErrorClass::of(&*error), ErrorClass::NotSent);
}

/// An issuer, and an API that accepts its tokens.
struct World {
    issuer: Issuer,
    api: Api,
}

impl World {
    async fn start() -> Self {
        let issuer = Issuer::builder().client("id", "secret").start().await;
        let issuer = issuer.unwrap();
        let api = Api::builder().tokens(issuer.tokens()).start().await;
        Self {
            issuer,
            api: api.unwrap(),
        }
    }

    fn credentials(&self) -> ClientCredentialsLayer {
        let url = self.issuer.token_url().parse().unwrap();
        let endpoint = TokenEndpoint::new(url, ClientAuth::basic("id", "secret")).service(http1());
        ClientCredentialsLayer::builder(endpoint, self.api.origin().parse().unwrap()).build()
    }

    /// Sends through clones of `service`: an ordinary request, one whose token was revoked, and one that is throttled.
    async fn check<S, B, RB>(&self, service: S, body: impl Fn() -> B)
    where
        S: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError> + Send,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        RB: Body + Send + 'static,
        RB::Data: Send,
        RB::Error: Debug,
    {
        let send = || {
            let request = Request::builder().method(Method::POST).uri(self.api.url());
            let service = service.clone();
            tokio::spawn(service.oneshot(request.body(body()).unwrap()))
        };
        let length = body().collect().await.map_or(0, |all| all.to_bytes().len());

        for wanted in 1..=3 {
            match wanted {
                2 => self.issuer.revoke_all(),
                3 => {
                    let throttled = StatusCode::TOO_MANY_REQUESTS;
                    self.api.next(ApiFault::retry_after(throttled, 0));
                }
                _ => {}
            }
            let response = send().await.unwrap().map_err(Into::into).unwrap();

            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(Attempts::of(&response), 2.min(wanted));
            let answer = response.into_body().collect().await.unwrap().to_bytes();
            let expected = format!("{{\"ok\":true,\"received\":{length}}}");
            assert_eq!(answer, expected);
        }
        assert_eq!(self.lengths(), [length; 5]);
        assert_eq!(self.issuer.seen().issued, 2);
    }

    /// The lengths of the bodies that have arrived at the API.
    fn lengths(&self) -> Vec<usize> {
        let requests = self.api.requests();
        requests
            .iter()
            .map(|request| usize::try_from(request.body_length).unwrap())
            .collect()
    }
}

/// Short waits: the time here is real.
fn limits() -> RateLimitRetryLayer {
    let moment = Duration::from_millis(1);
    RateLimitRetryLayer::builder()
        .backoff(Backoff::new(moment, moment))
        .build()
}

fn http1<B>() -> Client<HttpConnector, B>
where
    B: Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}

fn full() -> Full<Bytes> {
    Full::from(DATA)
}

/// A body of several frames and of a length that is not known before its end. Not `Clone`, not replayable.
struct Chunks(VecDeque<Bytes>);

impl Chunks {
    fn new() -> Self {
        let (head, tail) = DATA.split_at(4);
        Self([head, tail].map(Bytes::from).into())
    }

    #[expect(clippy::unnecessary_wraps, reason = "as `CloneWith` wants it")]
    fn try_clone(&self) -> Option<Self> {
        Some(Self(self.0.clone()))
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
    }
}

/// Sends again after a 500, so often.
#[derive(Clone)]
struct OnceMore(u32);

impl<B: Clone, RB, E> Policy<Request<B>, Response<RB>, E> for OnceMore {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        result: &mut Result<Response<RB>, E>,
    ) -> Option<Ready<()>> {
        let status = result.as_ref().ok()?.status();
        if status != StatusCode::INTERNAL_SERVER_ERROR {
            return None;
        }
        self.0 = self.0.checked_sub(1)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}
