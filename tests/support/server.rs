//! An authorization server in process, which responds as scripted and records its requests.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use tower::{service_fn, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, Clock, TokenEndpoint,
    client_credentials::{ClientCredentialsLayerBuilder, TokenHandle},
};

use super::{Body, origin};

pub(crate) const TOKEN_URL: &str = "https://id.example/token";
pub(crate) const GRANTED: &str =
    r#"{"access_token":"token","token_type":"Bearer","expires_in":300}"#;

pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(120);

/// Status and body for each URL; with a status of 0 there is never an answer, and a 429 asks to wait for
/// [`RETRY_AFTER`].
type Answer = Box<dyn Fn(&str) -> (u16, String) + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Server(Arc<State>);

struct State {
    requests: Mutex<Vec<RecordedRequest>>,
    answer: Mutex<Answer>,
}

#[derive(Clone, Debug)]
pub(crate) struct RecordedRequest {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) form: Vec<(String, String)>,
}

impl Server {
    /// Grants a token at every URL.
    pub(crate) fn granting() -> Self {
        Self::serving(|_| (200, GRANTED.to_owned()))
    }

    pub(crate) fn serving(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(State {
            requests: Mutex::default(),
            answer: Mutex::new(Box::new(answer)),
        }))
    }

    pub(crate) fn answer(&self, answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) {
        *self.0.answer.lock().unwrap() = Box::new(answer);
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.0.requests.lock().unwrap().clone()
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.requests().into_iter().map(|asked| asked.url).collect()
    }

    /// What the last request said.
    pub(crate) fn last_request(&self) -> RecordedRequest {
        self.requests().pop().unwrap()
    }

    pub(crate) fn service(
        &self,
    ) -> BoxCloneSyncService<Request<Full<Bytes>>, Response<Body>, BoxError> {
        let server = self.clone();
        BoxCloneSyncService::new(service_fn(move |request: Request<Full<Bytes>>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let url = parts.uri.to_string();
                let (status, body) = {
                    server.0.requests.lock().unwrap().push(RecordedRequest {
                        method: parts.method,
                        url: url.clone(),
                        headers: parts.headers,
                        form: form(&body),
                    });
                    (server.0.answer.lock().unwrap())(&url)
                };
                if status == 0 {
                    std::future::pending::<()>().await;
                }
                let mut response = Response::builder().status(status);
                if status == 429 {
                    response = response.header("retry-after", RETRY_AFTER.as_secs());
                }
                Ok::<_, BoxError>(response.body(Body::from(body))?)
            }
        }))
    }

    /// An endpoint at [`TOKEN_URL`] that asks this server.
    pub(crate) fn endpoint(&self, auth: ClientAuth) -> TokenEndpoint {
        TokenEndpoint::new(TOKEN_URL.parse().unwrap(), auth).service(self.service())
    }
}

impl RecordedRequest {
    pub(crate) fn form_values(&self, name: &str) -> Vec<&str> {
        let named = self.form.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a parameter.
    pub(crate) fn form_value(&self, name: &str) -> Option<&str> {
        let all = self.form_values(name);
        assert!(all.len() <= 1, "{name} is there {} times", all.len());
        all.first().copied()
    }
}

pub(crate) fn layer(endpoint: TokenEndpoint) -> ClientCredentialsLayerBuilder {
    ClientCredentialsLayer::builder(endpoint, origin())
        .clock(FixedClock)
        .seed(7)
}

pub(crate) fn handle(endpoint: TokenEndpoint) -> TokenHandle {
    layer(endpoint).build().handle()
}

/// tokio's time, and a civil time that stands still.
pub(crate) struct FixedClock;

pub(crate) const FIXED_SECONDS: u64 = 1_800_000_000;

impl Clock for FixedClock {
    fn now(&self) -> Instant {
        tower_m2m::SystemClock::default().now()
    }

    fn wall_clock(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(FIXED_SECONDS)
    }
}

fn form(body: &[u8]) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
    std::str::from_utf8(body)
        .unwrap()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}
