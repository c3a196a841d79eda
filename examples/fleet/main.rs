//! cargo run --release --features redis --example fleet -- --processes 50
//!
//! A fleet: a redis-server, an issuer, an API, and processes that run this program again. Part one shares one token: the
//! processes keep one token between them while some of them are killed, Redis is stopped, Redis is killed and restarts
//! empty, the fetching process is killed, and the API rejects every token. Part two shares one quota between eight
//! processes: by the API's responses alone, through Redis, and exactly. Prints tables, and fails if a promise was broken.
//!
//! Options: `--processes N` (default: 50); `--figures` measures the load of the stores on a Redis instead.
#![expect(
    clippy::disallowed_methods,
    reason = "the example measures how long it takes"
)]

mod child;
mod figures;
mod fleet;
mod quotas;
mod redis;
mod tokens;

use std::{process::ExitCode, time::Duration};

use tower_m2m::{
    BoxError,
    test_util::{Issuer, IssuerBuilder},
};

use self::child::Task;

/// Minimum time between two token requests that a rejected token causes.
const COOLDOWN: Duration = Duration::from_secs(2);

fn main() -> Result<ExitCode, BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if let Some(task) = Task::of_this_process() {
        runtime.block_on(child::run(task))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut arguments = std::env::args().skip(1);
    let (mut processes, mut figures) = (50, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--processes" => processes = arguments.next().ok_or(USAGE)?.parse()?,
            "--figures" => figures = true,
            _ => return Err(USAGE.into()),
        }
    }
    let kept = runtime.block_on(async {
        if figures {
            return figures::measure().await.map(|()| true);
        }
        let tokens = tokens::one_token(processes).await?;
        let quotas = quotas::one_quota().await?;
        Ok(tokens && quotas)
    })?;
    Ok(match kept {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Builds an issuer that takes `latency` for each token.
fn issuer(latency: Duration) -> IssuerBuilder {
    Issuer::builder().client("fleet", "secret").latency(latency)
}

const USAGE: &str = "usage: fleet [--processes N] [--figures]";
