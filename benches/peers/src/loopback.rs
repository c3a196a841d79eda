//! End to end: hyper-util's client against a hyper server on loopback, with and without the layers, in turns.

use std::{
    convert::Infallible,
    fmt::Debug,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::TcpListener, sync::Barrier, task::JoinSet};
use tower::{Layer, Service, ServiceExt};
use tower_m2m::{M2mLayer, RateLimitRetryLayer};

use crate::{
    contestants::prefetch_for,
    inner::{Sent, request},
    options::Options,
};

pub fn run(options: &Options) -> io::Result<()> {
    let serving = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let sending = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let address = serving.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(serve(listener));
        io::Result::Ok(address)
    })?;
    let origin = format!("http://{address}");
    let uri: Uri = format!("{origin}/v1/orders?expand=lines")
        .parse()
        .expect("a URI");
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let credentials = sending.block_on(prefetch_for(&origin));
    let stack = M2mLayer::new(RateLimitRetryLayer::new(), credentials).layer(client.clone());
    println!(
        "hyper-util's client (HTTP/1.1) against a hyper server on loopback, alternately with and without M2mLayer"
    );
    println!(
        "(default settings); both send a token of 900 bytes; medians. Goal: requests/s with ÷ without ≥ 0.97\n"
    );
    println!(
        "{:>9}{:>12}{:>12}{:>8}{:>20}{:>20}",
        "in flight", "bare 1/s", "stack 1/s", "÷", "p50, p99 bare µs", "p50, p99 stack µs"
    );
    let (rounds, turn) = if options.quick { (1, 30) } else { (15, 400) };
    let turn = Duration::from_millis(turn);
    for flights in [1, 64, 1024] {
        let mut bare = Vec::new();
        let mut stacked = Vec::new();
        // The first round opens the connections.
        for round in 0..=rounds {
            let own = sending.block_on(turns(&client, &uri, flights, turn, true));
            let theirs = sending.block_on(turns(&stack, &uri, flights, turn, false));
            if round > 0 {
                bare.push(own);
                stacked.push(theirs);
            }
        }
        let ratios = bare.iter().zip(&stacked).map(|(b, s)| s.rate / b.rate);
        let ratio = median(ratios.collect());
        let of = |all: &[Turn], part: fn(&Turn) -> f64| median(all.iter().map(part).collect());
        let latency =
            |all: &[Turn]| format!("{:.0}, {:.0}", of(all, |t| t.p50), of(all, |t| t.p99));
        println!(
            "{flights:>9}{:>12.0}{:>12.0}{ratio:>8.3}{:>20}{:>20}",
            of(&bare, |t| t.rate),
            of(&stacked, |t| t.rate),
            latency(&bare),
            latency(&stacked)
        );
    }
    Ok(())
}

struct Turn {
    /// Per second.
    rate: f64,
    /// In µs.
    p50: f64,
    p99: f64,
}

/// As many tasks as requests are in flight, each with a clone of its own.
async fn turns<S, RB>(
    service: &S,
    uri: &Uri,
    flights: usize,
    turn: Duration,
    with_token: bool,
) -> Turn
where
    S: Service<Sent, Response = Response<RB>, Error: Debug, Future: Send> + Clone + Send + 'static,
    RB: Body<Data: Send, Error: Debug> + Send + 'static,
{
    let mut template = request();
    *template.uri_mut() = uri.clone();
    if with_token {
        let token = HeaderValue::try_from(format!("Bearer {}", crate::inner::token()));
        template
            .headers_mut()
            .insert(header::AUTHORIZATION, token.expect("a header value"));
    }
    let barrier = Arc::new(Barrier::new(flights));
    let mut tasks = JoinSet::new();
    for _ in 0..flights {
        let (mut service, template, barrier) =
            (service.clone(), template.clone(), Arc::clone(&barrier));
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            barrier.wait().await;
            let start = Instant::now();
            while start.elapsed() < turn {
                let began = Instant::now();
                let request: Request<_> = template.clone();
                let answer = service
                    .ready()
                    .await
                    .expect("ready")
                    .call(request)
                    .await
                    .expect("a response");
                assert!(answer.status().is_success());
                answer.into_body().collect().await.expect("a body");
                latencies.push(began.elapsed().as_secs_f64() * 1e6);
            }
            (start, Instant::now(), latencies)
        });
    }
    let ended = tasks.join_all().await;
    let start = ended
        .iter()
        .map(|(start, ..)| *start)
        .min()
        .expect("one task");
    let end = ended
        .iter()
        .map(|(_, end, _)| *end)
        .max()
        .expect("one task");
    let mut latencies: Vec<_> = ended.into_iter().flat_map(|(.., l)| l).collect();
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    Turn {
        rate: latencies.len() as f64 / (end - start).as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
    }
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let answer = hyper::service::service_fn(|request: Request<Incoming>| async {
            drop(request.into_body().collect().await);
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(
                b"{\"ok\":true}",
            ))))
        });
        stream.set_nodelay(true).ok();
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer),
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
