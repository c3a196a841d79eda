//! Bytes of what there can be many of: waiting callers, partitions, tokens.

use std::{
    convert::Infallible,
    future::{Future, pending, ready},
    io,
    mem::size_of,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{Empty, Full};
use tokio::runtime::Runtime;
use tower::{Layer, Service, service_fn};
use tower_m2m::{
    ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer,
    client_credentials::{
        self, AccessToken, ClientCredentials, FetchContext, TokenError, TokenSource,
    },
    rate_limit_retry::{self, PartitionKey, RateLimitRetry},
    stack::{self, M2m},
};

use crate::{
    allocations::count,
    contestants::block_on,
    inner::{Free, Https, Plain, Sent, request, token},
    options::Options,
};

/// A source that returns a token immediately, or never.
struct Source {
    has_one: bool,
}

impl TokenSource for Source {
    async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        if !self.has_one {
            pending::<()>().await;
        }
        Ok(AccessToken::new(token()).expires_in(Duration::from_secs(3600)))
    }
}

pub fn run(options: &Options) -> io::Result<()> {
    let many = if options.quick { 100 } else { 5000 };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let _entered = runtime.enter();
    println!("Bytes in addition to those of hyper-util's https client:");
    let inner = size_of::<<Https as Service<Sent>>::Future>();
    let future = |name, size: usize| line(name, size as f64 - inner as f64);
    future(
        "  future of ClientCredentials",
        size_of::<client_credentials::ResponseFuture<Https, Full<Bytes>>>(),
    );
    future(
        "  future of RateLimitRetry",
        size_of::<rate_limit_retry::ResponseFuture<Https, Full<Bytes>>>(),
    );
    future(
        "  future of M2m (goal: 192)",
        size_of::<stack::ResponseFuture<Https, Full<Bytes>>>(),
    );
    let service = |name, size: usize| line(name, (size - size_of::<Https>()) as f64);
    service(
        "  idle clone of ClientCredentials",
        size_of::<ClientCredentials<Https>>(),
    );
    service(
        "  idle clone of RateLimitRetry",
        size_of::<RateLimitRetry<Https>>(),
    );
    service("  idle clone of M2m", size_of::<M2m<Https>>());
    println!("\nHeap bytes for each of {many}, including the request, token or key:");
    let requests = each(many, |_| request());
    line("  a request that is not sent", requests);
    let cold = || credentials(false);
    let free = Free::<Plain>::new;
    let limits = RateLimitRetryLayer::new;
    let alone = cold().layer(free());
    line(
        "  caller waiting for a token",
        each(many, |_| waiting(&alone)),
    );
    let both = M2mLayer::new(limits(), cold()).layer(free());
    line(
        "  the same through M2mLayer",
        each(many, |_| waiting(&both)),
    );
    line(
        "  ClientCredentialsLayer with its token",
        each(many, |_| prefetch(&runtime)),
    );
    line("  RateLimitRetryLayer", each(many, |_| limits()));
    let full = || service_fn(|_: Sent| ready(Ok::<_, Infallible>(queue_full())));
    let held = limits().layer(full());
    line(
        "  caller waiting for a quota",
        each(many, |_| waiting(&held)),
    );
    let held = M2mLayer::new(limits(), prefetch(&runtime)).layer(full());
    line(
        "  the same through M2mLayer",
        each(many, |_| waiting(&held)),
    );
    let by_path = RateLimitRetryLayer::builder()
        .partition_by(|head| PartitionKey::new(head.uri.path()))
        .build();
    let mut by_path = by_path.layer(free());
    line(
        "  partition",
        each(many, |number| {
            let mut request = request();
            *request.uri_mut() = format!("https://api.example.com/{number}")
                .parse()
                .expect("a URI");
            drop(block_on(by_path.call(request)).expect("a response"));
        }),
    );
    Ok(())
}

fn credentials(has_one: bool) -> ClientCredentialsLayer {
    let origin = "https://api.example.com".parse().expect("an origin");
    ClientCredentialsLayer::builder(Source { has_one }, origin).build()
}

fn prefetch(runtime: &Runtime) -> ClientCredentialsLayer {
    let layer = credentials(true);
    runtime
        .block_on(layer.handle().prefetch())
        .expect("a token");
    layer
}

fn queue_full() -> Response<Empty<Bytes>> {
    Response::builder()
        .status(StatusCode::TOO_MANY_REQUESTS)
        .header(header::RETRY_AFTER, "20")
        .body(Empty::new())
        .expect("a response")
}

/// A caller's future that has been polled, and waits.
fn waiting<S>(service: &S) -> Pin<Box<S::Future>>
where
    S: Service<Sent> + Clone,
{
    let mut service = service.clone();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut future = Box::pin(service.call(request()));
    assert!(future.as_mut().poll(&mut cx).is_pending());
    future
}

/// What one of them holds.
fn each<T>(many: usize, make: impl FnMut(usize) -> T) -> f64 {
    let mut all = Vec::new();
    let counted = count(|| all.extend((0..many).map(make)));
    counted.bytes as f64 / many as f64
}

fn line(name: &str, bytes: f64) {
    println!("{name:44}{bytes:>8.0}");
}
