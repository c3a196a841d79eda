//! One process of the fleet.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{process::Command, time::sleep};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, RateLimitRetryLayer, TokenEndpoint,
    client_credentials::{RedisTokenStore, StoreKeys, StoredTokens},
    rate_limit_retry::{RedisQuotaStore, StoredQuotas},
};

/// What a process is to do.
pub(crate) struct Task {
    pub(crate) token_url: String,
    pub(crate) api_url: String,
    pub(crate) redis_url: String,
    /// As fast as they may go; or some every second, for ever.
    pub(crate) requests: Option<usize>,
    /// Whether quotas are shared, too.
    pub(crate) shares_quotas: bool,
}

impl Task {
    /// None for the parent.
    pub(crate) fn of_this_process() -> Option<Self> {
        let read = |name| std::env::var(name).ok();
        Some(Self {
            token_url: read(TOKEN_URL)?,
            api_url: read(API_URL)?,
            redis_url: read(REDIS_URL)?,
            requests: read(REQUESTS).and_then(|number| number.parse().ok()),
            shares_quotas: read(QUOTAS).is_some(),
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
        if self.shares_quotas {
            command.env(QUOTAS, "shared");
        }
    }
}

/// Carries out the task; writes a line for each request that fails.
pub(crate) async fn run(task: Task) -> Result<(), BoxError> {
    let auth = ClientAuth::basic("fleet", "secret");
    let endpoint = TokenEndpoint::new(task.token_url.parse()?, auth);
    let http = || Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    // A key of 32 bytes; a real one comes from where secrets come from.
    let keys = StoreKeys::new("example", vec![7; 32])?;
    let store = RedisTokenStore::new(&task.redis_url, keys.clone())?;
    let tokens = StoredTokens::new(endpoint.service(http()), store)?;
    let mut limits = RateLimitRetryLayer::builder().max_wait(Duration::from_secs(120));
    if task.shares_quotas {
        let store = RedisQuotaStore::new(&task.redis_url, keys)?;
        limits = limits.store(StoredQuotas::new("fleet", store));
    }
    let client = ServiceBuilder::new()
        .layer(limits.build())
        .layer(ClientCredentialsLayer::builder(tokens, task.api_url.parse()?).build())
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
    let mut sent = 0;
    while task.requests.is_none_or(|requests| sent < requests) {
        if let Err(error) = send().await {
            println!("{error}");
        }
        sent += 1;
        if task.requests.is_none() {
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

const TOKEN_URL: &str = "FLEET_TOKEN_URL";
const API_URL: &str = "FLEET_API_URL";
const REDIS_URL: &str = "FLEET_REDIS_URL";
const REQUESTS: &str = "FLEET_REQUESTS";
const QUOTAS: &str = "FLEET_QUOTAS";
