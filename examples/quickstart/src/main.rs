//! cargo run -p quickstart            # progress, a table and a plot
//!
//! | option | |
//! |---|---|
//! | `--plot FILE.svg` | writes the plot to a file as well |
//! | `--json` | prints one JSON object instead |
//! | `--serve` | starts the two servers only, and prints the variables of the README's example |
//!
//! 64 workers send 600 requests through both layers and a real client, to an issuer of short-lived tokens and an API
//! with a quota. Both servers run in this process, on loopback. Tokens expire, all tokens are revoked once, and the quota
//! is exhausted four times. No request fails.

mod plot;
mod record;
mod terminal;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{ServiceBuilder, ServiceExt};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, RateLimitRetryLayer, TokenEndpoint,
    test_util::{Api, Dialect, Issuer, Quota},
};

use crate::{
    plot::Plot,
    record::Record,
    terminal::{Palette, Progress},
};

const REQUESTS: u32 = 600;
const WORKERS: u32 = 64;
/// The API accepts this many requests per window.
const QUOTA: u32 = 120;
const WINDOW: Duration = Duration::from_secs(2);
const TOKEN_LIFETIME: Duration = Duration::from_secs(5);
/// How long each response takes, as on a network.
const API_LATENCY: Duration = Duration::from_millis(40);
const ISSUER_LATENCY: Duration = Duration::from_millis(150);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let options = Options::parse(std::env::args().skip(1))?;

    // An issuer of tokens, and an API that accepts them and announces its quota in each response.
    let issuer = Issuer::builder()
        .client("quickstart", "secret")
        .expires_in(TOKEN_LIFETIME)
        .latency(ISSUER_LATENCY)
        .start()
        .await?;
    let api = Api::builder()
        .tokens(issuer.tokens())
        .quota(Quota::fixed_window(QUOTA, WINDOW))
        .dialect(Dialect::Draft3)
        .latency(API_LATENCY)
        .start()
        .await?;
    if options.serve {
        return serve(&issuer, &api).await;
    }

    // The layer that gets tokens, keeps them fresh, and replaces them after a 401.
    let record = Arc::new(Record::start());
    let auth = ClientAuth::basic("quickstart", "secret");
    let endpoint = TokenEndpoint::new(issuer.token_url().parse()?, auth)
        .service(Client::builder(TokioExecutor::new()).build_http());
    let credentials = ClientCredentialsLayer::builder(endpoint, api.origin().parse()?)
        .on_event(record.token_events())
        .build();

    // The layer that holds requests while the quota is exhausted, and retries those that the API rejects because of it.
    let limits = RateLimitRetryLayer::builder()
        .on_event(record.limit_events())
        .build();

    // Both around a client. Limits are outside, so that every attempt gets the current token. What passes below both
    // layers is what is sent, so it is recorded there.
    let client = ServiceBuilder::new()
        .layer(limits)
        .layer(credentials)
        .map_future(record.sends())
        .service(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());

    // The workers share the token and the quota, because their clients are clones.
    let next = Arc::new(AtomicU32::new(0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (client, next, record) = (client.clone(), Arc::clone(&next), Arc::clone(&record));
            let url = format!("{}orders", api.url());
            tokio::spawn(async move {
                while next.fetch_add(1, Relaxed) < REQUESTS {
                    record.called();
                    let request = Request::get(&url).body(Full::default());
                    let request = request.map_err(BoxError::from);
                    let result = match request {
                        Ok(request) => client.clone().oneshot(request).await,
                        Err(error) => Err(error),
                    };
                    record.returned(result.map(|response| response.status()));
                }
            })
        })
        .collect();

    let mut progress = Progress::new(REQUESTS, !options.json);
    let mut revoked = false;
    while !workers.iter().all(tokio::task::JoinHandle::is_finished) {
        let done = record.returned_so_far();
        // In the middle of the second window.
        if done > QUOTA + QUOTA / 4 && !revoked && !record.is_fetching() {
            revoked = true;
            record.revoked();
            issuer.revoke_all();
        }
        progress.show(done);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    progress.clear();

    let summary = record.summary(issuer.stats().redundant, optimum());
    let plot = Plot::new(&record.take(), WORKERS, QUOTA);
    if options.json {
        println!("{}", summary.json());
    } else {
        let palette = Palette::of_stdout();
        print!("{}\n{}", summary.table(&palette), plot.text(&palette));
    }
    if let Some(file) = options.plot {
        std::fs::write(&file, plot.svg()).map_err(|error| format!("{file}: {error}"))?;
        eprintln!("wrote {file}");
    }
    match summary.failed {
        0 => Ok(()),
        failed => Err(format!("{failed} requests failed").into()),
    }
}

/// The least possible time: the first token, all windows except the last, and the responses of the last one.
fn optimum() -> Duration {
    let windows = REQUESTS.div_ceil(QUOTA);
    let last = REQUESTS - (windows - 1) * QUOTA;
    ISSUER_LATENCY + WINDOW * (windows - 1) + API_LATENCY * last.div_ceil(WORKERS)
}

/// Keeps the servers running until the program is interrupted.
async fn serve(issuer: &Issuer, api: &Api) -> Result<(), BoxError> {
    println!("export OAUTH_CLIENT_ID=quickstart OAUTH_CLIENT_SECRET=secret");
    println!("export OAUTH_TOKEN_URL={}", issuer.token_url());
    println!("export OAUTH_ALLOWED_ORIGINS={}", api.origin());
    println!("export API_URL={}orders", api.url());
    eprintln!("an issuer and an API, until Ctrl-C");
    std::future::pending().await
}

#[derive(Debug, Default, PartialEq)]
struct Options {
    json: bool,
    serve: bool,
    plot: Option<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, BoxError> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--json" => options.json = true,
                "--serve" => options.serve = true,
                "--plot" => {
                    let file = arguments.next().ok_or("--plot needs a file name")?;
                    options.plot = Some(file);
                }
                other => {
                    let known = "--plot FILE.svg, --json and --serve";
                    return Err(format!("unknown option {other}; known: {known}").into());
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, BoxError> {
        Options::parse(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn options_are_read_in_any_order() {
        let options = parse(&["--json", "--plot", "run.svg"]).unwrap();

        assert_eq!(options, parse(&["--plot", "run.svg", "--json"]).unwrap());
        assert_eq!(options.plot.as_deref(), Some("run.svg"));
        assert!(options.json && !options.serve);
    }

    #[test]
    fn an_unknown_option_is_named() {
        assert!(parse(&["--plot"]).unwrap_err().to_string().contains("file"));
        let error = parse(&["--colour"]).unwrap_err().to_string();
        assert!(
            error.contains("--colour") && error.contains("--json"),
            "{error}"
        );
    }

    #[test]
    fn the_optimum_has_one_window_less_than_it_uses() {
        // 600 requests are five windows of 120, and 120 requests of 64 workers are two rounds.
        assert_eq!(optimum(), Duration::from_millis(150 + 4 * 2000 + 2 * 40));
    }
}
