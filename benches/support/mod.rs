//! What the benchmarks share: the request, the services under the layers, a token of 900 bytes, and threads that start
//! together.

#[allow(dead_code, reason = "no benchmark uses all of it")]
pub(crate) mod announced;

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    sync::{Arc, Barrier},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{Empty, Full};
use tower::Service;
use tower_m2m::{
    ClientCredentialsLayer,
    client_credentials::{
        AccessToken, ClientCredentialsLayerBuilder, FetchContext, TokenError, TokenSource,
    },
};

use announced::{Quotas, origin};

pub(crate) type Sent = Request<Full<Bytes>>;
pub(crate) type Answer = Response<Empty<Bytes>>;

/// A POST with 4 headers and a body of 85 bytes. Made once for each thread: its clones then share nothing with others.
pub(crate) fn request() -> Sent {
    request_to(&origin(0, 1))
}

/// The same to `origin`.
pub(crate) fn request_to(origin: &str) -> Sent {
    Request::post(format!("{origin}/v1/orders?expand=lines"))
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "bench/1.0")
        .header("x-request-id", "5f1c7a52-8d5e-4a6e-a1a5-4f2b7f3f8c11")
        .body(Full::new(Bytes::from_static(&[b'x'; 85])))
        .expect("a request")
}

/// Responds immediately. Cloning it costs nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Immediate;

impl Service<Sent> for Immediate {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        drop(black_box(request));
        ready(Ok(Response::new(Empty::new())))
    }
}

/// The same, and announces its quota in every response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announcing(pub(crate) &'static Quotas);

impl Service<Sent> for Announcing {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        let mut answer = Response::new(Empty::new());
        let host = request.uri().host().expect("an absolute URI");
        self.0.announce(host, answer.headers_mut());
        drop(black_box(request));
        ready(Ok(answer))
    }
}

/// A source that returns a token immediately.
#[derive(Clone, Copy, Debug)]
struct Issuer;

impl TokenSource for Issuer {
    async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        Ok(AccessToken::new(token()).expires_in(DAY))
    }
}

pub(crate) fn token() -> String {
    "t".repeat(900)
}

pub(crate) fn credentials() -> ClientCredentialsLayerBuilder {
    credentials_for(1)
}

/// For `origins` origins.
pub(crate) fn credentials_for(origins: usize) -> ClientCredentialsLayerBuilder {
    let origin = |number| origin(number, origins).parse().expect("an origin");
    let first = ClientCredentialsLayer::builder(Issuer, origin(0));
    (1..origins).fold(first, |builder, number| {
        builder.allow_origin(origin(number))
    })
}

/// A layer that has its token.
pub(crate) fn prefetch(builder: ClientCredentialsLayerBuilder) -> ClientCredentialsLayer {
    let layer = builder.build();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime
        .block_on(layer.handle().prefetch())
        .expect("a token from the source above");
    layer
}

/// Lets `threads` threads do `iterations` rounds between them; from the first start to the last end.
///
/// `work` is called on each thread with the number of its rounds, after all threads are there.
pub(crate) fn together<W>(threads: u64, iterations: u64, work: impl Fn() -> W + Sync) -> Duration
where
    W: FnOnce(u64),
{
    let barrier = Barrier::new(usize::try_from(threads).expect("a few threads"));
    let rounds = iterations.div_ceil(threads);
    let times: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let spawned: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let work = work();
                    barrier.wait();
                    let began = Instant::now();
                    work(rounds);
                    (began, Instant::now())
                })
            })
            .collect();
        let joined = spawned.into_iter().map(|t| t.join().expect("no panic"));
        joined.collect()
    });
    let began = times.iter().map(|(began, _)| *began).min();
    let ended = times.iter().map(|(_, ended)| *ended).max();
    let elapsed = began.zip(ended).map(|(b, e)| e.duration_since(b));
    // With fewer iterations than threads some rounds are extra.
    let done = rounds * threads;
    elapsed
        .unwrap_or_default()
        .mul_f64(iterations as f64 / done as f64)
}

/// Runs a future on this thread, without a runtime.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    thread_local! {
        static WAKER: Waker = Arc::new(Unpark(thread::current())).into();
    }
    WAKER.with(|waker| {
        let mut cx = Context::from_waker(waker);
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut cx) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    })
}

const DAY: Duration = Duration::from_secs(24 * 3600);
