//! What the tests share: an issuer and an API on loopback, and a check of a whole stack.

use std::{
    collections::VecDeque,
    fmt::Debug,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_ENCODING};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Service, ServiceExt};
use tower_m2m::{
    Attempts, Backoff, BoxError, ClientAuth, ClientCredentialsLayer, RateLimitRetryLayer,
    TokenEndpoint,
    test_util::{Api, ApiFault, Issuer},
};

pub(crate) const DATA: &str = "ten bytes.";

/// `DATA`, compressed.
const GZIP: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 43, 73, 205, 83, 72, 170, 44, 73, 45, 214, 3, 0, 127, 55, 123,
    195, 10, 0, 0, 0,
];

/// An issuer, and an API that accepts its tokens.
pub(crate) struct World {
    pub(crate) issuer: Issuer,
    pub(crate) api: Api,
    /// Of the API, as its clients see it.
    pub(crate) origin: String,
}

impl World {
    pub(crate) async fn start() -> Self {
        let issuer = Issuer::builder().client("id", "secret").start().await;
        let issuer = issuer.unwrap();
        let gzip = |_: &Request<Bytes>| {
            let response = Response::builder().header(CONTENT_ENCODING, "gzip");
            response.body(Full::from(GZIP)).unwrap()
        };
        let api = Api::builder().route(Method::GET, "/gzip", gzip);
        let api = api.tokens(issuer.tokens()).start().await.unwrap();
        let origin = api.origin();
        Self {
            issuer,
            api,
            origin,
        }
    }

    pub(crate) fn credentials(&self) -> ClientCredentialsLayer {
        let url = self.issuer.token_url().parse().unwrap();
        let endpoint = TokenEndpoint::new(url, ClientAuth::basic("id", "secret")).service(http1());
        ClientCredentialsLayer::builder(endpoint, self.origin.parse().unwrap()).build()
    }

    /// Sends through clones of `service`: an ordinary request, one whose token was revoked, and one that is throttled.
    pub(crate) async fn check<S, B, RB>(&self, service: S, body: impl Fn() -> B)
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
            let request = Request::builder().method(Method::POST).uri(&self.origin);
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
        assert_eq!(self.issuer.stats().issued, 2);
    }

    /// The lengths of the bodies that have arrived at the API.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        let requests = self.api.requests();
        requests
            .iter()
            .map(|request| usize::try_from(request.body_length).unwrap())
            .collect()
    }
}

/// Short waits: the time here is real.
pub(crate) fn limits() -> RateLimitRetryLayer {
    let moment = Duration::from_millis(1);
    RateLimitRetryLayer::builder()
        .backoff(Backoff::new(moment, moment))
        .build()
}

pub(crate) fn http1<B>() -> Client<HttpConnector, B>
where
    B: Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}

pub(crate) fn full() -> Full<Bytes> {
    Full::from(DATA)
}

/// A body of several frames and of a length that is not known before its end. Not `Clone`, not replayable.
pub(crate) struct Chunks(VecDeque<Bytes>);

impl Chunks {
    pub(crate) fn new() -> Self {
        let (head, tail) = DATA.split_at(4);
        Self([head, tail].map(Bytes::from).into())
    }

    #[expect(clippy::unnecessary_wraps, reason = "as `CloneWith` wants it")]
    pub(crate) fn try_clone(&self) -> Option<Self> {
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
