//! cargo run --release --example quickstart            # a table; `-- --json` prints one JSON object
//!
//! The main job, on loopback: 600 requests by 64 workers through both layers and a real client, against an issuer of
//! short-lived tokens and an API with a quota, while the tokens expire, are revoked once, and the quota runs out.
#![expect(
    clippy::disallowed_methods,
    reason = "the example measures how long it takes"
)]

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{ServiceBuilder, ServiceExt};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, RateLimitRetryLayer, TokenEndpoint,
    client_credentials::{Remedy, TokenEvent},
    rate_limit_retry::RateLimitEvent,
    test_util::{Api, Dialect, Issuer, Quota},
};

const REQUESTS: usize = 600;
const WORKERS: usize = 64;
const QUOTA: usize = 120;
const WINDOW: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let json = std::env::args().any(|argument| argument == "--json");
    let issuer = Issuer::builder()
        .client("quickstart", "secret")
        .expires_in(Duration::from_secs(3))
        .start()
        .await?;
    let api = Api::builder()
        .tokens(issuer.tokens())
        .quota(Quota::fixed_window(QUOTA as u32, WINDOW))
        .dialect(Dialect::DraftThree)
        .start()
        .await?;

    let recovered = Arc::new(AtomicUsize::new(0));
    let retries = Arc::new(AtomicUsize::new(0));
    let (on_refused, on_retry) = (Arc::clone(&recovered), Arc::clone(&retries));
    let credentials = ClientCredentialsLayer::builder(
        TokenEndpoint::new(
            issuer.token_url().parse()?,
            ClientAuth::basic("quickstart", "secret"),
        )
        .service(Client::builder(TokioExecutor::new()).build_http()),
        api.origin().parse()?,
    )
    .on_event(move |event| {
        if let TokenEvent::Refused {
            remedy: Remedy::Replay,
            ..
        } = event
        {
            on_refused.fetch_add(1, Relaxed);
        }
    })
    .build();
    let client = ServiceBuilder::new()
        .layer(
            RateLimitRetryLayer::builder()
                .on_event(move |event| {
                    if let RateLimitEvent::Retrying { .. } = event {
                        on_retry.fetch_add(1, Relaxed);
                    }
                })
                .build(),
        )
        .layer(credentials)
        .service(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());

    let began = Instant::now();
    let (next, ok) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (client, url) = (client.clone(), api.url());
            let (next, ok) = (Arc::clone(&next), Arc::clone(&ok));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= REQUESTS {
                        return;
                    }
                    let request = Request::get(format!("{url}orders/{number}"));
                    let Ok(request) = request.body(Full::default()) else {
                        return;
                    };
                    match client.clone().oneshot(request).await {
                        Ok(response) if response.status() == StatusCode::OK => {
                            ok.fetch_add(1, Relaxed);
                        }
                        Ok(response) => eprintln!("request {number}: {}", response.status()),
                        Err(error) => eprintln!("request {number}: {error}"),
                    }
                }
            })
        })
        .collect();

    let watched = std::io::stderr().is_terminal() && !json;
    let mut revoked = false;
    while !workers.iter().all(tokio::task::JoinHandle::is_finished) {
        let done = ok.load(Relaxed);
        if done > REQUESTS / 2 && !revoked {
            revoked = true;
            issuer.revoke_all();
        }
        if watched {
            eprint!(
                "\r[{:<30}] {done}/{REQUESTS}",
                "#".repeat(done * 30 / REQUESTS)
            );
            std::io::stderr().flush()?;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if watched {
        eprintln!();
    }
    let elapsed = began.elapsed();

    let (tokens, limits) = (issuer.seen(), api.seen());
    let ok = ok.load(Relaxed);
    // Each window takes QUOTA requests; the first begins at once.
    let optimum = WINDOW * (REQUESTS.div_ceil(QUOTA) - 1) as u32;
    let rows = [
        ("requests", REQUESTS as u64),
        ("ok", ok as u64),
        ("failed", (REQUESTS - ok) as u64),
        ("token_requests", tokens.token_requests),
        ("needless_token_requests", tokens.needless),
        ("unauthorized_recovered", recovered.load(Relaxed) as u64),
        ("rate_limited", limits.rate_limited),
        ("retries", retries.load(Relaxed) as u64),
        ("elapsed_ms", elapsed.as_millis() as u64),
        ("optimum_ms", optimum.as_millis() as u64),
    ];
    if json {
        let members: Vec<_> = rows
            .iter()
            .map(|(name, n)| format!("\"{name}\":{n}"))
            .collect();
        println!("{{{}}}", members.join(","));
    } else {
        for (name, value) in rows {
            println!("{:<26}{value:>8}", name.replace('_', " "));
        }
    }
    if ok < REQUESTS {
        return Err("not all requests succeeded".into());
    }
    Ok(())
}
