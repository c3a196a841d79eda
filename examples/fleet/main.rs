//! cargo run --release --features redis --example fleet -- --processes 50
//!
//! A fleet: a redis-server, an issuer, an API, and processes that are this program again. In the first act they keep one
//! token among them, while some are killed, Redis is stopped, and Redis is killed and comes back empty. In the second,
//! eight of them share a quota: once each by the API's answers alone, and once through Redis. Ends with tables, and with a
//! failure if a promise was broken. Option: `--processes N` (50).
#![expect(
    clippy::disallowed_methods,
    reason = "the example measures how long it takes"
)]

mod child;
mod fleet;
mod redis;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tower_m2m::{
    BoxError,
    test_util::{Api, Dialect, Issuer, Quota},
};

use self::{child::Task, fleet::Fleet, redis::Redis};

const TOKEN_LIFE: Duration = Duration::from_secs(6);
const LIMIT: u32 = 300;
const WINDOW: Duration = Duration::from_secs(10);

fn main() -> Result<ExitCode, BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if let Some(task) = Task::of_this_process() {
        runtime.block_on(child::run(task))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut arguments = std::env::args().skip(1);
    let mut processes = 50;
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--processes", Some(number)) => processes = number.parse()?,
            _ => return Err("usage: fleet [--processes N]".into()),
        }
    }
    let kept = runtime.block_on(async {
        let tokens = one_token(processes).await?;
        println!(
            "8 processes with 150 requests each, {LIMIT} allowed every {} s",
            WINDOW.as_secs()
        );
        println!(
            "| quota | makespan | optimum | ratio | refused | token requests | failed requests |"
        );
        println!("|---|---|---|---|---|---|---|");
        let alone = one_quota(false).await?;
        let shared = one_quota(true).await?;
        Ok::<_, BoxError>(tokens && alone && shared)
    })?;
    Ok(match kept {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn issuer() -> tower_m2m::test_util::IssuerBuilder {
    Issuer::builder()
        .client("fleet", "secret")
        .expires_in(TOKEN_LIFE)
        .latency(Duration::from_millis(200))
}

/// The first act.
async fn one_token(processes: usize) -> Result<bool, BoxError> {
    let issuer = issuer().start().await?;
    let api = Api::builder().tokens(issuer.tokens()).start().await?;
    let mut redis = Redis::start()?;
    let task = Task {
        token_url: issuer.token_url(),
        api_url: api.url(),
        redis_url: redis.url(),
        requests: None,
        shares_quotas: false,
    };
    println!(
        "{processes} processes, a token of {} s",
        TOKEN_LIFE.as_secs()
    );
    println!("| what happens | seconds | token requests | at most | failed requests |");
    println!("|---|---|---|---|---|");
    let mut fleet = Fleet::start(&task, processes)?;
    let mut kept = true;
    let mut asked = 0;
    for phase in Phase::ALL {
        let began = Instant::now();
        match phase {
            Phase::Cold | Phase::Calm | Phase::Recovered => sleep(2 * TOKEN_LIFE).await,
            Phase::Killed => {
                for _ in 0..8 {
                    sleep(TOKEN_LIFE / 4).await;
                    fleet.replace_one(&task)?;
                }
            }
            Phase::Stopped => {
                redis.stop()?;
                sleep(2 * TOKEN_LIFE).await;
                redis.go_on()?;
            }
            Phase::Restarted => {
                redis.kill()?;
                sleep(TOKEN_LIFE).await;
                redis.come_back()?;
                sleep(TOKEN_LIFE).await;
            }
        }
        let elapsed = began.elapsed();
        let requests = issuer.seen().token_requests - asked;
        asked += requests;
        let most = phase.most(elapsed, processes as u64);
        let failed = fleet.take_failed();
        println!(
            "| {} | {:.1} | {requests} | {most} | {failed} |",
            phase.name(),
            elapsed.as_secs_f64(),
        );
        kept &= requests <= most && failed == 0;
    }
    fleet.kill()?;
    let (requests, refused) = (api.seen().requests, api.seen().unauthorized);
    println!("\n{requests} requests to the API, {refused} answered 401\n");
    Ok(kept)
}

/// What happens to the fleet, one after the other.
#[derive(Clone, Copy)]
enum Phase {
    Cold,
    Killed,
    Calm,
    Stopped,
    Recovered,
    Restarted,
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::Cold,
        Self::Killed,
        Self::Calm,
        Self::Stopped,
        Self::Recovered,
        Self::Restarted,
        Self::Recovered,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Cold => "all start cold",
            Self::Killed => "8 are killed, and others take their places",
            Self::Calm => "nothing",
            Self::Stopped => "Redis does not answer",
            Self::Recovered => "Redis is there again",
            Self::Restarted => "Redis is killed, and comes back empty",
        }
    }

    /// One token request for each renewal, after four fifths of a life at the latest and three quarters at the earliest;
    /// two where the one who asks is killed; one for each process without the store.
    fn most(self, elapsed: Duration, processes: u64) -> u64 {
        let renewals = elapsed.div_duration_f64(TOKEN_LIFE * 3 / 4).ceil() as u64;
        match self {
            // At a change of phase one more may fall into it.
            Self::Cold | Self::Calm | Self::Recovered => renewals + 1,
            Self::Killed => 2 * renewals + 1,
            Self::Stopped | Self::Restarted => renewals * processes,
        }
    }
}

/// The second act.
async fn one_quota(shared: bool) -> Result<bool, BoxError> {
    const PROCESSES: usize = 8;
    const REQUESTS: usize = 150;
    let issuer = issuer().start().await?;
    let api = Api::builder()
        .tokens(issuer.tokens())
        .quota(Quota::fixed_window(LIMIT, WINDOW))
        .dialect(Dialect::DraftThree)
        .latency(Duration::from_millis(20))
        .start()
        .await?;
    let redis = Redis::start()?;
    let task = Task {
        token_url: issuer.token_url(),
        api_url: api.url(),
        redis_url: redis.url(),
        requests: Some(REQUESTS),
        shares_quotas: shared,
    };
    let began = Instant::now();
    let mut fleet = Fleet::start(&task, PROCESSES)?;
    fleet.ended().await;
    let took = began.elapsed();
    let failed = fleet.take_failed();
    let seen = api.seen();
    let windows = (PROCESSES * REQUESTS).div_ceil(LIMIT as usize) as u32;
    // The last window need not pass.
    let optimum = WINDOW * (windows - 1);
    println!(
        "| {} | {:.1} s | {:.1} s | {:.3} | {} of {} | {} | {failed} |",
        if shared {
            "through Redis"
        } else {
            "each by itself"
        },
        took.as_secs_f64(),
        optimum.as_secs_f64(),
        took.div_duration_f64(optimum),
        seen.rate_limited,
        seen.requests,
        issuer.seen().token_requests,
    );
    // Of 1200 requests at most 0.2 % are refused.
    Ok(failed == 0 && (!shared || seen.rate_limited <= 2))
}
