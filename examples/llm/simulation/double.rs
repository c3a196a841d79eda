//! A test double: a language model that counts requests and tokens per minute, and streams its completions.
//!
//! Both counters are token buckets. A request takes the length of its prompt and the maximum length of its completion
//! from the tokens. At the end of the completion, the model refunds what was not used.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tower::Service;
use tower_m2m::BoxError;

use crate::Job;

/// The limits of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) requests_per_minute: u64,
    pub(crate) tokens_per_minute: u64,
}

/// The model. Clones share their counters.
#[derive(Clone, Debug)]
pub(crate) struct Model(Arc<Mutex<State>>);

/// The counters of the model.
#[derive(Debug)]
struct State {
    requests: Bucket,
    tokens: Bucket,
    /// Number of throttled requests.
    throttled: usize,
    /// Tokens that completions have used.
    used: u64,
}

/// A token bucket, full at first.
#[derive(Debug)]
struct Bucket {
    /// Its size, and what is refilled per minute.
    limit: f64,
    /// What remained at the last update.
    left: f64,
    /// Time of the last update.
    updated: Instant,
}

/// The events of a completion.
pub(crate) struct Events(mpsc::UnboundedReceiver<Bytes>);

impl Model {
    /// Creates a model whose buckets are full.
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(State {
            requests: Bucket::new(limits.requests_per_minute),
            tokens: Bucket::new(limits.tokens_per_minute),
            throttled: 0,
            used: 0,
        })))
    }

    /// Returns the number of throttled requests, and the tokens that completions have used.
    pub(crate) fn served(&self) -> (usize, u64) {
        let state = self.state();
        (state.throttled, state.used)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Responds to a request: with a stream of events, or with a 429.
    async fn respond(self, request: Request<Full<Bytes>>) -> Result<Response<Events>, BoxError> {
        let Ok(body) = request.into_body().collect().await;
        let body: serde_json::Value = serde_json::from_slice(&body.to_bytes())?;
        let max_tokens = body["max_completion_tokens"].as_u64().unwrap_or(1);
        let prompt = body["messages"][0]["content"].as_str().unwrap_or_default();
        let prompt = (prompt.len() / 4) as u64;
        // The example determines the length of the completion.
        let completion = &body["metadata"]["completion_tokens"];
        let completion = completion.as_u64().unwrap_or(1).min(max_tokens);
        let reserved = prompt + max_tokens;

        let (events, stream) = mpsc::unbounded_channel();
        let mut response = Response::new(Events(stream));
        let accepted = {
            let mut state = self.state();
            let accepted = state.take(reserved);
            if let Err(wait) = accepted {
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                let seconds = wait.as_secs_f64().ceil() as u64;
                response.headers_mut().insert("retry-after", seconds.into());
            }
            state.announce(response.headers_mut())?;
            accepted.is_ok()
        };
        if !accepted {
            return Ok(response);
        }
        response.headers_mut().insert(
            "content-type",
            HeaderValue::from_static("text/event-stream"),
        );
        tokio::spawn(self.stream(events, prompt, completion, reserved));
        Ok(response)
    }

    /// Streams a completion, and counts its tokens.
    async fn stream(
        self,
        events: mpsc::UnboundedSender<Bytes>,
        prompt: u64,
        completion: u64,
        reserved: u64,
    ) {
        sleep(FIRST_TOKEN).await;
        for _ in 0..events_of(completion) {
            sleep(PER_EVENT).await;
            let chunk =
                r#"{"choices":[{"index":0,"delta":{"content":"so \"it\" goes "}}],"usage":null}"#;
            // An error means that the client is gone. The model completes the stream, as it has counted it.
            drop(events.send(format!("data: {chunk}\n\n").into()));
        }
        let used = prompt + completion;
        {
            let mut state = self.state();
            state.used += used;
            state.tokens.refund(reserved - used);
        }
        let usage = serde_json::json!({
            "choices": [],
            "usage": { "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": used },
        });
        drop(events.send(format!("data: {usage}\n\ndata: [DONE]\n\n").into()));
    }
}

/// Returns the time that an omniscient client needs to request these completions in their order.
///
/// It sends each request as soon as a worker is free and the buckets contain enough.
pub(crate) fn optimum(limits: Limits, workers: usize, jobs: &[Job]) -> Duration {
    let [mut requests, mut tokens] =
        [limits.requests_per_minute, limits.tokens_per_minute].map(|limit| limit as f64);
    let limit = [requests, tokens];
    // The end of each stream, and its refund.
    let mut streams: Vec<(f64, f64)> = Vec::new();
    let (mut now, mut end) = (0.0, 0.0_f64);
    for job in jobs {
        let reserved = (job.prompt + job.max_tokens) as f64;
        loop {
            let missing = [(1.0 - requests) / limit[0], (reserved - tokens) / limit[1]];
            let wait = missing
                .map(|share| share * 60.0)
                .into_iter()
                .fold(0.0, f64::max);
            let is_free = streams.len() < workers;
            // A shorter wait is a rounding error.
            if is_free && wait < 1e-6 {
                break;
            }
            let first = (0..streams.len()).min_by(|a, b| streams[*a].0.total_cmp(&streams[*b].0));
            let first_end = first.map_or(f64::INFINITY, |first| streams[first].0);
            let then = if is_free {
                first_end.min(now + wait)
            } else {
                first_end
            };
            requests = (requests + (then - now) * limit[0] / 60.0).min(limit[0]);
            tokens = (tokens + (then - now) * limit[1] / 60.0).min(limit[1]);
            now = then;
            if then == first_end
                && let Some(first) = first
            {
                tokens = (tokens + streams.swap_remove(first).1).min(limit[1]);
            }
        }
        (requests, tokens) = (requests - 1.0, tokens - reserved);
        let events = events_of(job.completion);
        let length = FIRST_TOKEN + PER_EVENT * u32::try_from(events).unwrap_or(u32::MAX);
        let stream_end = now + length.as_secs_f64();
        streams.push((stream_end, (job.max_tokens - job.completion) as f64));
        end = end.max(stream_end);
    }
    Duration::from_secs_f64(end)
}

/// Returns the number of events in which a completion is streamed, without the last one.
fn events_of(completion: u64) -> u64 {
    completion.div_ceil(TOKENS_PER_EVENT)
}

impl State {
    /// Takes one request and these tokens from the buckets.
    ///
    /// # Errors
    ///
    /// The wait until they are refilled, if not enough remains.
    fn take(&mut self, tokens: u64) -> Result<(), Duration> {
        let wait = self.requests.wait(1).max(self.tokens.wait(tokens));
        if !wait.is_zero() {
            self.throttled += 1;
            return Err(wait);
        }
        self.requests.left -= 1.0;
        self.tokens.left -= tokens as f64;
        Ok(())
    }

    /// Announces both counters, as OpenAI does: a reset is the time until the bucket is full.
    fn announce(&mut self, headers: &mut HeaderMap) -> Result<(), BoxError> {
        let Self {
            requests, tokens, ..
        } = self;
        for (limit, remaining, reset, bucket) in [
            (
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-reset-requests",
                requests,
            ),
            (
                "x-ratelimit-limit-tokens",
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-tokens",
                tokens,
            ),
        ] {
            bucket.refill();
            let full_in = (1.0 - bucket.left / bucket.limit) * 60.0;
            headers.insert(limit, HeaderValue::from_str(&bucket.limit.to_string())?);
            headers.insert(
                remaining,
                HeaderValue::from_str(&bucket.left.floor().to_string())?,
            );
            headers.insert(reset, HeaderValue::from_str(&format!("{full_in:.3}s"))?);
        }
        Ok(())
    }
}

impl Bucket {
    /// Creates a full bucket.
    fn new(limit: u64) -> Self {
        Self {
            limit: limit as f64,
            left: limit as f64,
            updated: Instant::now(),
        }
    }

    /// Adds what was refilled since the last call.
    fn refill(&mut self) {
        let now = Instant::now();
        let elapsed = now.duration_since(self.updated).as_secs_f64();
        self.left = (self.left + self.limit * elapsed / 60.0).min(self.limit);
        self.updated = now;
    }

    /// Returns the wait until this amount is available. An amount above the limit waits for up to a minute.
    fn wait(&mut self, amount: u64) -> Duration {
        self.refill();
        let missing = (amount as f64).min(2.0 * self.limit) - self.left;
        Duration::from_secs_f64(missing.max(0.0) / self.limit * 60.0)
    }

    /// Adds units that were taken but not used.
    fn refund(&mut self, amount: u64) {
        self.refill();
        self.left = (self.left + amount as f64).min(self.limit);
    }
}

impl Service<Request<Full<Bytes>>> for Model {
    type Response = Response<Events>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        Box::pin(self.clone().respond(request))
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let event = self.0.poll_recv(cx);
        event.map(|event| event.map(|data| Ok(Frame::data(data))))
    }
}

/// Time until the first token of a completion.
const FIRST_TOKEN: Duration = Duration::from_millis(300);
/// Number of tokens in one event.
const TOKENS_PER_EVENT: u64 = 20;
/// Time between two events: 200 tokens a second.
const PER_EVENT: Duration = Duration::from_millis(100);
