//! One process of the fleet.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{process::Command, time::sleep};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer, TokenEndpoint,
    client_credentials::RedisTokenStore,
    rate_limit_retry::{FleetQuota, RedisQuotaStore, StoredQuotas},
    store::StoreKeyring,
};

use crate::COOLDOWN;

/// What a process is to do.
pub(crate) struct Task {
    pub(crate) token_url: String,
    pub(crate) api_url: String,
    pub(crate) redis_url: String,
    /// As fast as allowed, or a number per second without end.
    pub(crate) requests: Option<usize>,
    pub(crate) quotas: Quotas,
}

/// How it keeps to the API's quota.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Quotas {
    ByItself,
    Shared,
    /// A number of requests in a number of seconds, for the whole fleet.
    Exact(u32, u64),
}

impl Task {
    /// None for the parent.
    pub(crate) fn of_this_process() -> Option<Self> {
        let read = |name| std::env::var(name).ok();
        let quotas = read(QUOTAS).unwrap_or_default();
        Some(Self {
            token_url: read(TOKEN_URL)?,
            api_url: read(API_URL)?,
            redis_url: read(REDIS_URL)?,
            requests: read(REQUESTS).and_then(|number| number.parse().ok()),
            quotas: match quotas.split_once('/') {
                Some((limit, window)) => Quotas::Exact(limit.parse().ok()?, window.parse().ok()?),
                None if quotas.is_empty() => Quotas::ByItself,
                None => Quotas::Shared,
            },
        })
    }

    pub(crate) fn hand_to(&self, command: &mut Command) {
        command
            .env(TOKEN_URL, &self.token_url)
            .env(API_URL, &self.api_url)
            .env(REDIS_URL, &self.redis_url);
        if let Some(requests) = self.requests {
            command.env(REQUESTS, requests.to_string());
        }
        match self.quotas {
            Quotas::ByItself => {}
            Quotas::Shared => drop(command.env(QUOTAS, "shared")),
            Quotas::Exact(limit, window) => drop(command.env(QUOTAS, format!("{limit}/{window}"))),
        }
    }
}

/// Carries out the task. Writes [`ASKS`] before each token request, [`SERVED`] after the first request that succeeds, and a
/// line for each that fails.
pub(crate) async fn run(task: Task) -> Result<(), BoxError> {
    let auth = ClientAuth::basic("fleet", "secret");
    let endpoint = TokenEndpoint::new(task.token_url.parse()?, auth);
    let http = || Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let issuer = ServiceBuilder::new()
        .map_request(|request: Request<Full<Bytes>>| {
            println!("{ASKS}");
            request
        })
        .service(http());
    // A key of 32 bytes; a real one comes from where secrets come from.
    let keys = StoreKeyring::new("example", vec![7; 32])?;
    let store = RedisTokenStore::new(&task.redis_url, keys.clone())?;
    let endpoint = endpoint.service(issuer);
    let tokens = ClientCredentialsLayer::builder(endpoint, task.api_url.parse()?).store(store);
    let mut limits = RateLimitRetryLayer::builder().max_wait(Duration::from_secs(120));
    if task.quotas != Quotas::ByItself {
        let store = RedisQuotaStore::new(&task.redis_url, keys)?;
        let mut quotas = StoredQuotas::new("fleet", store);
        if let Quotas::Exact(limit, window) = task.quotas {
            quotas = quotas.fleet_quota(FleetQuota::per(limit, Duration::from_secs(window)));
        }
        limits = limits.store(quotas);
    }
    let limits = limits.build();
    let quotas = limits.handle();
    // The token comes before the quota: a slot of the fleet that waited for a token would be used in a later window.
    let client = ServiceBuilder::new()
        .layer(M2mLayer::new(
            limits,
            tokens.refresh_cooldown(COOLDOWN).build(),
        ))
        .service(http());
    let send = async || {
        let request = Request::get(format!("{}/orders", task.api_url)).body(Full::default())?;
        let response = client.clone().ready().await?.call(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        match status.is_success() {
            true => Ok::<_, BoxError>(()),
            false => Err(format!("status {status}").into()),
        }
    };
    let (mut sent, mut served) = (0, false);
    while task.requests.is_none_or(|requests| sent < requests) {
        match send().await {
            Ok(()) if !served => {
                served = true;
                println!("{SERVED}");
            }
            Ok(()) => {}
            Err(error) => println!("{error}"),
        }
        sent += 1;
        if task.requests.is_none() {
            sleep(Duration::from_millis(100)).await;
        }
    }
    quotas.release_reservations().await;
    Ok(())
}

pub(crate) const ASKS: &str = "requests a token";
pub(crate) const SERVED: &str = "is served";

const TOKEN_URL: &str = "FLEET_TOKEN_URL";
const API_URL: &str = "FLEET_API_URL";
const REDIS_URL: &str = "FLEET_REDIS_URL";
const REQUESTS: &str = "FLEET_REQUESTS";
const QUOTAS: &str = "FLEET_QUOTAS";
