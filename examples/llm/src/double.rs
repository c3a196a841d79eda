//! A double: an API that streams made-up answers, and counts requests and tokens per minute as OpenAI does.
//!
//! Both counters are token buckets, full at first. A request takes the length of its prompt and the maximum length of its
//! answer from the tokens; what its answer did not use is given back at the end.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt, Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_m2m::BoxError;

use self::events::Events;

mod events;

/// The key that the double accepts.
pub(crate) const KEY: &str = "double-key";

/// Limits per minute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
}

impl Limits {
    /// The prompts of this package need a quarter more tokens.
    pub(crate) const DEFAULT: Self = Self {
        requests: 500,
        tokens: 32_000,
    };
}

/// A running server. Dropping it closes all connections.
#[derive(Debug)]
pub(crate) struct Server(#[expect(dead_code, reason = "ends with its owner")] JoinSet<()>);

#[derive(Clone, Debug)]
struct Model(Arc<Mutex<Buckets>>);

#[derive(Debug)]
struct Buckets {
    requests: Bucket,
    tokens: Bucket,
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    /// Its size, and what is refilled per minute.
    limit: f64,
    left: f64,
    updated: Instant,
}

/// Starts the server on a free port of this machine. Returns the base URL of the API.
///
/// # Errors
///
/// There is no free port.
pub(crate) async fn start(limits: Limits) -> Result<(String, Server), BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    let model = Model(Arc::new(Mutex::new(Buckets {
        requests: Bucket::new(limits.requests),
        tokens: Bucket::new(limits.tokens),
    })));
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let model = model.clone();
            let service = service_fn(move |request| model.clone().respond(request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // An error means that the client has closed the connection.
            connections.spawn(async move { drop(connection.await) });
        }
    });
    Ok((url, Server(server)))
}

impl Model {
    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn respond(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Either<Events, Full<Bytes>>>, Infallible> {
        let is_authorized = request
            .headers()
            .get(AUTHORIZATION)
            .is_some_and(|value| value == format!("Bearer {KEY}").as_str());
        if !is_authorized {
            return Ok(rejection(StatusCode::UNAUTHORIZED, "incorrect API key"));
        }
        let body = request.into_body().collect().await;
        let body = body
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(&body) else {
            return Ok(rejection(StatusCode::BAD_REQUEST, "the body is not JSON"));
        };
        let prompt = body["messages"][0]["content"].as_str().unwrap_or_default();
        let prompt_tokens = prompt.len().div_ceil(4) as u64;
        let max_tokens = body["max_completion_tokens"].as_u64().unwrap_or(1);
        let reserved = prompt_tokens + max_tokens;

        let taken = self.buckets().take(reserved);
        let (events, stream) = mpsc::unbounded_channel();
        let mut response = match taken {
            Ok(()) => Response::new(Either::Left(Events(stream))),
            Err(_) => rejection(StatusCode::TOO_MANY_REQUESTS, "rate limit reached"),
        };
        let headers = response.headers_mut();
        if let Err(wait) = taken {
            headers.insert("retry-after", (wait.as_secs_f64().ceil() as u64).into());
        } else {
            headers.insert(
                "content-type",
                HeaderValue::from_static("text/event-stream"),
            );
            let length = length_of(prompt, max_tokens);
            tokio::spawn(
                self.clone()
                    .stream(events, prompt_tokens, length, max_tokens),
            );
        }
        self.buckets().announce(headers);
        Ok(response)
    }

    /// Streams an answer of `length` tokens, and gives back the others.
    async fn stream(
        self,
        events: mpsc::UnboundedSender<Bytes>,
        prompt_tokens: u64,
        length: u64,
        max_tokens: u64,
    ) {
        sleep(FIRST_TOKEN).await;
        let (mut words, mut written) = (WORDS.iter().cycle(), 0);
        while written < length {
            sleep(PER_EVENT).await;
            let words: Vec<_> = words
                .by_ref()
                .take(TOKENS_PER_EVENT as usize)
                .copied()
                .collect();
            written += TOKENS_PER_EVENT;
            let content = words.join(" ") + " ";
            let event = serde_json::json!({ "choices": [{ "delta": { "content": content } }], "usage": null });
            // An error means that the client is gone. What it has asked for is counted.
            drop(events.send(format!("data: {event}\n\n").into()));
        }
        self.buckets().tokens.give_back(max_tokens - length);
        let usage = serde_json::json!({
            "choices": [],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": length,
                "total_tokens": prompt_tokens + length,
            },
        });
        drop(events.send(format!("data: {usage}\n\ndata: [DONE]\n\n").into()));
    }
}

/// The length of an answer: different for each prompt, the same in each run.
fn length_of(prompt: &str, max_tokens: u64) -> u64 {
    let seed = prompt
        .bytes()
        .fold(7, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
    fastrand::Rng::with_seed(seed).u64(max_tokens / 4..=max_tokens)
}

fn rejection(status: StatusCode, message: &str) -> Response<Either<Events, Full<Bytes>>> {
    let body = serde_json::json!({ "error": { "message": message } }).to_string();
    let mut response = Response::new(Either::Right(Full::from(body)));
    *response.status_mut() = status;
    response
}

impl Buckets {
    /// Takes one request and these tokens.
    ///
    /// # Errors
    ///
    /// The wait until there are as many.
    fn take(&mut self, tokens: u64) -> Result<(), Duration> {
        let wait = self.requests.wait(1).max(self.tokens.wait(tokens));
        if !wait.is_zero() {
            return Err(wait);
        }
        self.requests.left -= 1.0;
        self.tokens.left -= tokens as f64;
        Ok(())
    }

    /// Announces both, as OpenAI does: a reset is the time until the bucket is full.
    fn announce(&mut self, headers: &mut HeaderMap) {
        let mut insert = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        let full_in = |bucket: &Bucket| (1.0 - bucket.left / bucket.limit) * 60.0;
        self.requests.refill();
        insert(
            "x-ratelimit-limit-requests",
            self.requests.limit.to_string(),
        );
        insert(
            "x-ratelimit-remaining-requests",
            self.requests.left.floor().to_string(),
        );
        insert(
            "x-ratelimit-reset-requests",
            format!("{:.3}s", full_in(&self.requests)),
        );
        self.tokens.refill();
        insert("x-ratelimit-limit-tokens", self.tokens.limit.to_string());
        insert(
            "x-ratelimit-remaining-tokens",
            self.tokens.left.floor().to_string(),
        );
        insert(
            "x-ratelimit-reset-tokens",
            format!("{:.3}s", full_in(&self.tokens)),
        );
    }
}

impl Bucket {
    fn new(limit: u64) -> Self {
        Self {
            limit: limit as f64,
            left: limit as f64,
            updated: Instant::now(),
        }
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let elapsed = now.duration_since(self.updated).as_secs_f64();
        self.left = (self.left + self.limit * elapsed / 60.0).min(self.limit);
        self.updated = now;
    }

    /// Returns the wait until this amount is available. An amount above the limit never is: a minute.
    fn wait(&mut self, amount: u64) -> Duration {
        self.refill();
        let missing = (amount as f64).min(2.0 * self.limit) - self.left;
        Duration::from_secs_f64(missing.max(0.0) / self.limit * 60.0)
    }

    fn give_back(&mut self, amount: u64) {
        self.refill();
        self.left = (self.left + amount as f64).min(self.limit);
    }
}

/// Time until the first token of an answer.
const FIRST_TOKEN: Duration = Duration::from_millis(200);
/// Number of tokens in one event.
const TOKENS_PER_EVENT: u64 = 20;
/// Time between two events: 400 tokens a second.
const PER_EVENT: Duration = Duration::from_millis(50);
/// What the answers say.
const WORDS: [&str; 7] = ["this", "double", "has", "no", "opinion", "about", "that;"];
