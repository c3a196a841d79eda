//! cargo run --release --features redis --example fleet -- --processes 50
//!
//! A fleet: a redis-server, an issuer, an API, and processes that are this program again. In the first act they keep one
//! token among them, while some are killed, Redis is stopped, and Redis is killed and comes back empty; and then the one
//! that fetches is killed, and the API refuses every token. In the second, eight of them share a quota: once each by the
//! API's answers alone, once through Redis, and once exactly. Ends with tables, and with a failure if a promise was broken.
//!
//! Options: `--processes N` (50); `--figures` measures instead what the stores cost a Redis.
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

/// The least time between two token requests that a refused token brings about.
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

/// An issuer that takes so long for each token.
fn issuer(latency: Duration) -> IssuerBuilder {
    Issuer::builder().client("fleet", "secret").latency(latency)
}

const USAGE: &str = "usage: fleet [--processes N] [--figures]";
