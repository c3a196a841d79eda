//! cargo run --release --example quickstart            # a table; `-- --json` prints one JSON object
//!
//! The main use case, on loopback: 64 workers send 600 requests through both layers and a real client, against an issuer
//! of short-lived tokens and an API with a quota. Meanwhile tokens expire, all tokens are revoked once, and the quota runs
//! out. With `--url URL` and the `OAUTH_*` variables, it sends the same requests to a real API, all to that one URL.
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
use http::Request;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{ServiceBuilder, ServiceExt};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, RateLimitRetryLayer, TokenEndpoint,
    client_credentials::{ClientCredentialsLayerBuilder, Config, RejectionAction, TokenEvent},
    rate_limit_retry::RateLimitEvent,
    test_util::{Api, Dialect, Issuer, Quota},
};

const REQUESTS: usize = 600;
const WORKERS: usize = 64;
const QUOTA: usize = 120;
const WINDOW: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let options: Vec<_> = std::env::args().skip(1).collect();
    let json = options.iter().any(|option| option == "--json");
    let url = options.iter().position(|option| option == "--url");
    let url = url.map(|at| options.get(at + 1).ok_or("--url needs a URL"));
    let target = match url.transpose()? {
        Some(url) => Target::real(url)?,
        None => Target::doubles().await?,
    };

    let recovered = Arc::new(AtomicUsize::new(0));
    let (fetches, throttled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let retries = Arc::new(AtomicUsize::new(0));
    let (on_refused, on_fetch) = (Arc::clone(&recovered), Arc::clone(&fetches));
    let (on_retry, on_throttle) = (Arc::clone(&retries), Arc::clone(&throttled));
    let credentials = target
        .credentials()?
        .on_event(move |event| match event {
            TokenEvent::FetchStarted { .. } => drop(on_fetch.fetch_add(1, Relaxed)),
            TokenEvent::Rejected {
                action: RejectionAction::Replayed,
                ..
            } => drop(on_refused.fetch_add(1, Relaxed)),
            _ => {}
        })
        .build();
    let client = ServiceBuilder::new()
        .layer(
            RateLimitRetryLayer::builder()
                .on_event(move |event| match event {
                    RateLimitEvent::Throttled { .. } => drop(on_throttle.fetch_add(1, Relaxed)),
                    RateLimitEvent::Retrying { .. } => drop(on_retry.fetch_add(1, Relaxed)),
                    _ => {}
                })
                .build(),
        )
        .layer(credentials)
        .service(Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector()?));

    let began = Instant::now();
    let (next, ok) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (client, target) = (client.clone(), Arc::clone(&target));
            let (next, ok) = (Arc::clone(&next), Arc::clone(&ok));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= REQUESTS {
                        return;
                    }
                    let request = Request::get(target.url(number));
                    let Ok(request) = request.body(Full::default()) else {
                        return;
                    };
                    match client.clone().oneshot(request).await {
                        Ok(response) if response.status().is_success() => {
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
            target.revoke();
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

    let ok = ok.load(Relaxed);
    let seen = target.seen();
    let rows = [
        ("requests", Some(REQUESTS as u64)),
        ("ok", Some(ok as u64)),
        ("failed", Some((REQUESTS - ok) as u64)),
        ("token_requests", Some(fetches.load(Relaxed) as u64)),
        ("needless_token_requests", seen.redundant),
        (
            "unauthorized_recovered",
            Some(recovered.load(Relaxed) as u64),
        ),
        ("rate_limited", Some(throttled.load(Relaxed) as u64)),
        ("retries", Some(retries.load(Relaxed) as u64)),
        ("elapsed_ms", Some(elapsed.as_millis() as u64)),
        ("optimum_ms", seen.optimum_ms),
    ];
    if json {
        let members: Vec<_> = rows
            .iter()
            .map(|(name, value)| match value {
                Some(value) => format!("\"{name}\":{value}"),
                None => format!("\"{name}\":null"),
            })
            .collect();
        println!("{{{}}}", members.join(","));
    } else {
        for (name, value) in rows {
            let value = value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
            println!("{:<26}{value:>8}", name.replace('_', " "));
        }
    }
    if ok < REQUESTS {
        return Err("not all requests succeeded".into());
    }
    Ok(())
}

/// The servers that the requests go to.
enum Target {
    Doubles { issuer: Issuer, api: Api },
    Real { config: Box<Config>, url: String },
}

/// Counters that only the test doubles have.
#[derive(Default)]
struct Seen {
    redundant: Option<u64>,
    optimum_ms: Option<u64>,
}

impl Target {
    async fn doubles() -> Result<Arc<Self>, BoxError> {
        let issuer = Issuer::builder()
            .client("quickstart", "secret")
            .expires_in(Duration::from_secs(3))
            .start()
            .await?;
        let api = Api::builder()
            .tokens(issuer.tokens())
            .quota(Quota::fixed_window(QUOTA as u32, WINDOW))
            .dialect(Dialect::Draft3)
            .start()
            .await?;
        Ok(Arc::new(Self::Doubles { issuer, api }))
    }

    fn real(url: &str) -> Result<Arc<Self>, BoxError> {
        let (config, url) = (Box::new(Config::from_env()?), url.to_owned());
        Ok(Arc::new(Self::Real { config, url }))
    }

    fn credentials(&self) -> Result<ClientCredentialsLayerBuilder, BoxError> {
        match self {
            Self::Doubles { issuer, api } => {
                let auth = ClientAuth::basic("quickstart", "secret");
                let endpoint = TokenEndpoint::new(issuer.token_url().parse()?, auth)
                    .service(Client::builder(TokioExecutor::new()).build_http());
                let origin = api.origin().parse()?;
                Ok(ClientCredentialsLayer::builder(endpoint, origin))
            }
            Self::Real { config, .. } => Ok(config.layer()?),
        }
    }

    fn url(&self, number: usize) -> String {
        match self {
            Self::Doubles { api, .. } => format!("{}orders/{number}", api.url()),
            Self::Real { url, .. } => url.clone(),
        }
    }

    fn revoke(&self) {
        if let Self::Doubles { issuer, .. } = self {
            issuer.revoke_all();
        }
    }

    fn seen(&self) -> Seen {
        match self {
            Self::Doubles { issuer, .. } => {
                // Each window takes QUOTA requests; the first begins at once.
                let optimum = WINDOW * (REQUESTS.div_ceil(QUOTA) - 1) as u32;
                Seen {
                    redundant: Some(issuer.stats().redundant),
                    optimum_ms: Some(optimum.as_millis() as u64),
                }
            }
            Self::Real { .. } => Seen::default(),
        }
    }
}

fn connector() -> Result<HttpsConnector<HttpConnector>, BoxError> {
    Ok(HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
        .https_or_http()
        .enable_http1()
        .build())
}
