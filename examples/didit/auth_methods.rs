//! The three ways to authenticate, each under the same limits.
#![expect(
    clippy::disallowed_methods,
    reason = "the example measures how long requests wait"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{Method, Request, StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body_util::Full;
use tokio::task::JoinSet;
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer, TokenEndpoint,
    client_credentials::{AccessToken, ClientCredentialsLayerBuilder},
    rate_limit_retry::{PartitionKey, RateLimitEvent},
};

use super::{Body, Site, X_API_KEY, account::Credentials};

/// Number of concurrent requests of each kind per authentication method.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) gets: usize,
    pub(crate) posts: usize,
}

#[derive(Clone, Copy)]
enum AuthMethod {
    /// `POST /auth/v2/oauth2/token`, id and key in the form.
    Form,
    /// `POST /auth/v2/token/`, id and key as Basic; documented without the encoding that RFC 6749 asks for.
    Basic,
    /// No token at all.
    Key,
}

impl AuthMethod {
    fn name(self) -> &'static str {
        match self {
            Self::Form => "oauth2/token, form",
            Self::Basic => "token/, basic",
            Self::Key => "x-api-key",
        }
    }

    fn layer(
        self,
        site: &Site,
        credentials: &Credentials,
        asked: &Arc<AtomicU64>,
    ) -> Result<ClientCredentialsLayerBuilder, BoxError> {
        let (id, key) = (&credentials.client_id, credentials.api_key.clone());
        let origin = site.api.parse()?;
        let (path, auth) = match self {
            Self::Form => ("/auth/v2/oauth2/token", ClientAuth::post(id, key)),
            Self::Basic => ("/auth/v2/token/", ClientAuth::basic_raw(id, key)),
            Self::Key => {
                let key = AccessToken::new(key);
                return Ok(ClientCredentialsLayer::builder(key, origin).header(X_API_KEY));
            }
        };
        let asked = Arc::clone(asked);
        let http = ServiceBuilder::new()
            .map_request(move |request: Request<Body>| {
                asked.fetch_add(1, Relaxed);
                request
            })
            .service(site.http.clone());
        let url = format!("{}{path}", site.auth);
        let endpoint = TokenEndpoint::new(url.parse()?, auth).service(http);
        Ok(ClientCredentialsLayer::builder(endpoint, origin))
    }

    fn token_requests(self) -> u64 {
        match self {
            Self::Form | Self::Basic => 1,
            Self::Key => 0,
        }
    }
}

/// Sends the load in each way, prints what it took, and gives back the tokens.
pub(crate) async fn run(
    site: &Site,
    credentials: &Credentials,
    load: Load,
) -> Result<Vec<AccessToken>, BoxError> {
    let throttled = Arc::new(AtomicU64::new(0));
    let on_throttle = Arc::clone(&throttled);
    // The quota is the application's, so all ways share what is known about it.
    let limits = RateLimitRetryLayer::builder()
        .partition_by(by_method_class)
        .on_event(move |event| {
            if matches!(event, RateLimitEvent::Throttled { .. }) {
                on_throttle.fetch_add(1, Relaxed);
            }
        })
        .build();
    println!(
        "{:<20}{:>9}{:>6}{:>16}{:>6}{:>14}",
        "method", "requests", "ok", "token requests", "429s", "longest wait"
    );
    let mut tokens = Vec::new();
    let mut failed = false;
    for way in [AuthMethod::Form, AuthMethod::Basic, AuthMethod::Key] {
        let asked = Arc::new(AtomicU64::new(0));
        let layer = way.layer(site, credentials, &asked)?.name("didit").build();
        let handle = layer.handle();
        let outcome = send(site, &M2mLayer::new(limits.clone(), layer), load).await?;
        let (asked, requests) = (asked.load(Relaxed), load.gets + load.posts);
        println!(
            "{:<20}{requests:>9}{:>6}{asked:>16}{:>6}{:>12} ms",
            way.name(),
            outcome.ok,
            throttled.swap(0, Relaxed),
            outcome.longest.as_millis(),
        );
        failed |= outcome.ok != requests || asked != way.token_requests();
        if way.token_requests() > 0 {
            tokens.push(handle.token().await?);
        }
    }
    if failed {
        return Err("a request failed, or there were needless token requests".into());
    }
    Ok(tokens)
}

/// How the API answers to a key.
pub(crate) async fn status_with_key(
    site: &Site,
    credentials: &Credentials,
) -> Result<StatusCode, BoxError> {
    let layer = AuthMethod::Key
        .layer(site, credentials, &Arc::default())?
        .build();
    let client = layer.layer(site.http.clone());
    Ok(client.oneshot(list(site)?).await?.status())
}

struct Outcome {
    ok: usize,
    longest: Duration,
}

async fn send(site: &Site, layer: &M2mLayer, load: Load) -> Result<Outcome, BoxError> {
    let client = layer.layer(site.http.clone());
    let mut requests = JoinSet::new();
    for number in 0..load.gets + load.posts {
        let request = if number < load.gets {
            list(site)?
        } else {
            create(site)?
        };
        let (client, began) = (client.clone(), Instant::now());
        requests.spawn(async move {
            let outcome = client.oneshot(request).await;
            (outcome.map(|response| response.status()), began.elapsed())
        });
    }
    let mut outcome = Outcome {
        ok: 0,
        longest: Duration::ZERO,
    };
    while let Some(ended) = requests.join_next().await {
        let (ended, took) = ended?;
        outcome.longest = outcome.longest.max(took);
        match ended {
            Ok(status) if status.is_success() => outcome.ok += 1,
            Ok(status) => eprintln!("{status}"),
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(outcome)
}

/// Didit counts reading apart from writing.
fn by_method_class(parts: &Parts) -> PartitionKey {
    let class = if parts.method == Method::GET {
        "didit get"
    } else {
        "didit write"
    };
    class.into()
}

fn list(site: &Site) -> Result<Request<Body>, BoxError> {
    Ok(Request::get(format!("{}/v2/sessions", site.api)).body(Full::default())?)
}

fn create(site: &Site) -> Result<Request<Body>, BoxError> {
    let session =
        r#"{"workflow_id":"11111111-2222-3333-4444-555555555555","vendor_data":"user-1"}"#;
    Ok(Request::post(format!("{}/v2/session/", site.api))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::from(session))?)
}
