//! cargo run --release --example llm
//!
//! 32 workers stream 200 completions from a language model that counts requests and tokens per minute, with OpenAI's
//! fields. Three clients do the same: one without costs, one that estimates them, and one that also reads the usage at
//! the end of each stream. Time is virtual, so the example ends within seconds. The optimum is the time of an
//! omniscient client that requests the completions in their order.
//!
//! Options: `--requests N`, `--workers N`, `--tokens-per-minute N`, `--requests-per-minute N`, `--seed N`.
#![expect(
    clippy::disallowed_methods,
    reason = "the example measures how long it takes, by tokio's paused clock"
)]

mod double;

use std::{
    io::{IsTerminal, stderr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::{task::JoinSet, time::Instant};
use tower::{ServiceBuilder, ServiceExt};
use tower_m2m::{
    BoxError, RateLimitRetryLayer,
    rate_limit_retry::{Cost, CostUsed, ReadUsageLayer},
};

use self::double::{Limits, Model};

/// Maximum cost of a completion: the longest prompt and the longest completion, in tokens.
const MAX_COST: u64 = 4_000;
/// The endpoint of the model. Nothing listens there: the client of the example is the model itself.
const URL: &str = "https://llm.example.com/v1/chat/completions";

/// The options of the command line.
#[derive(Clone, Copy, Debug)]
struct Options {
    requests: usize,
    workers: usize,
    limits: Limits,
    seed: u64,
}

/// How a client handles costs.
#[derive(Clone, Copy, Debug)]
enum Client {
    WithoutCosts,
    WithEstimates,
    WithEstimatesAndUsage,
}

/// One completion to request.
#[derive(Clone, Copy, Debug)]
struct Job {
    /// Length of the prompt in tokens.
    prompt: u64,
    /// Maximum length of the completion.
    max_tokens: u64,
    /// Actual length of the completion, which only the model knows.
    completion: u64,
}

/// The result of a run.
#[derive(Debug)]
struct Outcome {
    succeeded: usize,
    throttled: usize,
    tokens: u64,
    elapsed: Duration,
    optimum: Duration,
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), BoxError> {
    let options = Options::read()?;
    let Limits {
        requests_per_minute,
        tokens_per_minute,
    } = options.limits;
    println!(
        "{} completions, {} workers, {requests_per_minute} requests and {tokens_per_minute} tokens per minute, seed {}\n",
        options.requests, options.workers, options.seed
    );
    let mut rows = Vec::new();
    for client in [
        Client::WithoutCosts,
        Client::WithEstimates,
        Client::WithEstimatesAndUsage,
    ] {
        rows.push((client.name(), run(client, options).await?));
    }
    println!(
        "{:<24} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "client", "completed", "throttled", "tokens", "time", "optimum", "÷ optimum"
    );
    for (name, outcome) in &rows {
        println!(
            "{name:<24} {:>9} {:>9} {:>9} {:>8.1}s {:>8.1}s {:>9.3}",
            outcome.succeeded,
            outcome.throttled,
            outcome.tokens,
            outcome.elapsed.as_secs_f64(),
            outcome.optimum.as_secs_f64(),
            outcome.elapsed.as_secs_f64() / outcome.optimum.as_secs_f64().max(f64::MIN_POSITIVE),
        );
    }
    let complete = |(_, outcome): &(_, Outcome)| outcome.succeeded == options.requests;
    if rows.iter().all(complete) {
        Ok(())
    } else {
        Err("not all completions succeeded".into())
    }
}

/// Requests all completions, and measures the time.
async fn run(client: Client, options: Options) -> Result<Outcome, BoxError> {
    let mut random = Rng::with_seed(options.seed);
    let job = |_| {
        let (prompt, max_tokens) = (random.u64(50..1_500), random.u64(150..=2_500));
        Job {
            prompt,
            max_tokens,
            completion: random.u64(max_tokens / 5..=max_tokens),
        }
    };
    let jobs: Arc<[Job]> = (0..options.requests).map(job).collect();
    let model = Model::new(options.limits);
    let service = {
        let mut builder = RateLimitRetryLayer::builder()
            .seed(options.seed)
            .max_retries(50)
            .max_wait(Duration::from_secs(3600));
        if !matches!(client, Client::WithoutCosts) {
            // The estimate is in the request's extensions: see `Job::request`.
            builder = builder.cost(|head| head.extensions.get().cloned().unwrap_or_default());
        }
        let reads_usage = matches!(client, Client::WithEstimatesAndUsage);
        ServiceBuilder::new()
            .layer(builder.build())
            .map_request(move |mut request: Request<Full<Bytes>>| {
                if !reads_usage {
                    // Without the handle, `ReadUsageLayer` reads nothing.
                    drop(CostUsed::take(&mut request));
                }
                request
            })
            .layer(ReadUsageLayer::new())
            .service(model.clone())
    };
    let progress = Progress::new(client, options.requests);
    let (next, succeeded) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..options.workers {
        let (service, jobs) = (service.clone(), Arc::clone(&jobs));
        let (next, succeeded, progress) = (Arc::clone(&next), Arc::clone(&succeeded), progress);
        workers.spawn(async move {
            while let Some(job) = jobs.get(next.fetch_add(1, Relaxed)) {
                let response = service.clone().oneshot(job.request()?).await?;
                let status = response.status();
                response.into_body().collect().await?;
                let done = succeeded.fetch_add(usize::from(status == StatusCode::OK), Relaxed) + 1;
                progress.show(done, began.elapsed());
            }
            Ok::<_, BoxError>(())
        });
    }
    while let Some(outcome) = workers.join_next().await {
        outcome??;
    }
    progress.clear();
    let (throttled, tokens) = model.served();
    Ok(Outcome {
        succeeded: succeeded.load(Relaxed),
        throttled,
        tokens,
        elapsed: began.elapsed(),
        optimum: double::optimum(options.limits, options.workers, &jobs),
    })
}

impl Job {
    /// Creates the request. Its cost is the maximum that the model may count, which the caller knows before the send.
    fn request(self) -> Result<Request<Full<Bytes>>, BoxError> {
        let body = serde_json::json!({
            "model": "double",
            "stream": true,
            "stream_options": { "include_usage": true },
            "max_completion_tokens": self.max_tokens,
            "metadata": { "completion_tokens": self.completion },
            // About four characters are one token.
            "messages": [{ "role": "user", "content": "word".repeat(usize::try_from(self.prompt)?) }],
        });
        let cost = Cost::new().with("tokens", self.prompt + self.max_tokens);
        let request = Request::post(URL).extension(cost);
        Ok(request.body(Full::from(serde_json::to_vec(&body)?))?)
    }
}

impl Client {
    /// The client's name in the table.
    fn name(self) -> &'static str {
        match self {
            Self::WithoutCosts => "without costs",
            Self::WithEstimates => "estimates",
            Self::WithEstimatesAndUsage => "estimates and usage",
        }
    }
}

/// The progress line.
#[derive(Clone, Copy, Debug)]
struct Progress {
    client: Client,
    total: usize,
    /// Whether the output is a terminal: only a terminal can overwrite a line.
    is_terminal: bool,
}

impl Progress {
    fn new(client: Client, total: usize) -> Self {
        let is_terminal = stderr().is_terminal();
        Self {
            client,
            total,
            is_terminal,
        }
    }

    fn show(self, done: usize, elapsed: Duration) {
        if self.is_terminal {
            let (name, total) = (self.client.name(), self.total);
            eprint!("\r{name}: {done} of {total} after {elapsed:.0?} of virtual time  ");
        }
    }

    fn clear(self) {
        if self.is_terminal {
            eprint!("\r{:78}\r", "");
        }
    }
}

impl Options {
    /// Reads the command line.
    fn read() -> Result<Self, BoxError> {
        let mut options = Self {
            requests: 200,
            workers: 32,
            limits: Limits {
                requests_per_minute: 500,
                tokens_per_minute: 60_000,
            },
            seed: 7,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a number"))?;
            match &*name {
                "--requests" => options.requests = value.parse()?,
                "--workers" => options.workers = value.parse()?,
                "--tokens-per-minute" => options.limits.tokens_per_minute = value.parse()?,
                "--requests-per-minute" => options.limits.requests_per_minute = value.parse()?,
                "--seed" => options.seed = value.parse()?,
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        if options.limits.tokens_per_minute < MAX_COST || options.limits.requests_per_minute == 0 {
            let least =
                format!("a completion costs up to {MAX_COST} tokens: allow as many a minute");
            return Err(least.into());
        }
        Ok(options)
    }
}
