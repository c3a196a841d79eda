//! What the stores cost a Redis: commands, time and memory, with tasks that stand for processes.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};
use tower::{Layer, ServiceExt};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, RateLimitRetryLayer, TokenEndpoint,
    client_credentials::RedisTokenStore,
    rate_limit_retry::{RedisQuotaStore, StoredQuotas},
    store::StoreKeyring,
    test_util::{Api, Dialect, Quota},
};

use crate::{
    issuer,
    redis::{Redis, Spent},
};

pub(crate) async fn measure() -> Result<(), BoxError> {
    println!(
        "| scenario | processes | seconds | scripts | scripts per process | commands per script | Redis time per \
         script, µs | bytes of all keys |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for processes in [8, 50, 100] {
        tokens(processes).await?;
    }
    for processes in [8, 50, 100] {
        quotas(
            "quota sufficient, 20 requests per second each",
            processes,
            1_000_000,
        )
        .await?;
        quotas("300 per minute exhausted, all wait", processes, 300).await?;
    }
    Ok(())
}

/// A cold start, then a renewal.
async fn tokens(processes: usize) -> Result<(), BoxError> {
    const LIFE: Duration = Duration::from_secs(10);
    let redis = Redis::start()?;
    let issuer = issuer(Duration::from_millis(200))
        .expires_in(LIFE)
        .in_process();
    let mut tasks = JoinSet::new();
    for _ in 0..processes {
        let auth = ClientAuth::basic("fleet", "secret");
        let endpoint = TokenEndpoint::new(issuer.token_url().parse()?, auth);
        let store = RedisTokenStore::new(redis.url(), keys()?)?;
        let endpoint = endpoint.service(issuer.service());
        let layer = ClientCredentialsLayer::builder(endpoint, "https://api.example".parse()?);
        let handle = layer.store(store).build().handle();
        tasks.spawn(async move {
            let mut each = interval(Duration::from_millis(50));
            loop {
                each.tick().await;
                drop(handle.token().await);
            }
        });
    }
    for (what, length) in [("cold start", LIFE / 2), ("a renewal", LIFE / 2)] {
        let before = redis.spent()?;
        sleep(length).await;
        print(what, processes, length, &before, &redis)?;
    }
    Ok(())
}

async fn quotas(what: &str, processes: usize, limit: u32) -> Result<(), BoxError> {
    let redis = Redis::start()?;
    let api = Api::builder()
        .quota(Quota::fixed_window(limit, Duration::from_secs(60)))
        .dialect(Dialect::Draft3)
        .latency(Duration::from_millis(20))
        .in_process();
    let mut tasks = JoinSet::new();
    for _ in 0..processes {
        let store = RedisQuotaStore::new(redis.url(), keys()?)?;
        let quotas = StoredQuotas::new("fleet", store);
        let layer = RateLimitRetryLayer::builder().store(quotas).build();
        let service = layer.layer(api.service());
        tasks.spawn(async move {
            let mut each = interval(Duration::from_millis(50));
            loop {
                each.tick().await;
                let request = Request::get("https://api.test/").body(Full::<Bytes>::default());
                if let Ok(request) = request {
                    tokio::spawn(service.clone().oneshot(request));
                }
            }
        });
    }
    // Until it is steady.
    sleep(Duration::from_secs(3)).await;
    let (before, length) = (redis.spent()?, Duration::from_secs(5));
    sleep(length).await;
    print(what, processes, length, &before, &redis)
}

fn print(
    what: &str,
    processes: usize,
    length: Duration,
    before: &Spent,
    redis: &Redis,
) -> Result<(), BoxError> {
    let after = redis.spent()?;
    let scripts = after.scripts - before.scripts;
    let each = |sum: u64| sum as f64 / scripts.max(1) as f64;
    println!(
        "| {what} | {processes} | {} | {scripts} | {:.1} | {:.1} | {:.0} | {} |",
        length.as_secs(),
        scripts as f64 / processes as f64,
        each(after.commands - before.commands),
        each(after.micros - before.micros),
        after.bytes,
    );
    Ok(())
}

fn keys() -> Result<StoreKeyring, BoxError> {
    Ok(StoreKeyring::new("example", vec![7; 32])?)
}
