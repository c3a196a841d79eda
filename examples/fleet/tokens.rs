//! The first act: one token.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tower_m2m::{
    BoxError,
    test_util::{Api, ApiFault, Issuer},
};

use crate::{
    COOLDOWN,
    child::{Quotas, Task},
    fleet::Fleet,
    issuer,
    redis::Redis,
};

const LIFE: Duration = Duration::from_secs(6);
/// The default of `ClientCredentialsLayerBuilder::store_lease`.
const LEASE: Duration = Duration::from_secs(5);

/// One line of the table.
struct Row {
    what: String,
    elapsed: Duration,
    token_requests: u64,
    at_most: u64,
    failed: u64,
    is_met: bool,
}

impl Row {
    fn print(&self) -> bool {
        let kept = self.is_met && self.token_requests <= self.at_most;
        println!(
            "| {} | {:.1} | {} | {} | {} | {} |",
            self.what,
            self.elapsed.as_secs_f64(),
            self.token_requests,
            self.at_most,
            self.failed,
            if kept { "yes" } else { "NO" },
        );
        kept
    }
}

/// Whether all promises were kept.
pub(crate) async fn one_token(processes: usize) -> Result<bool, BoxError> {
    println!("{processes} processes, a token of {} s", LIFE.as_secs());
    println!("| scenario | seconds | token requests | maximum | failed requests | met |");
    println!("|---|---|---|---|---|---|");
    let mut kept = phases(processes).await?;
    let (leader, refused) = tokio::join!(killed_leader(processes), rejected_token(processes));
    kept &= leader?.print();
    kept &= refused?.print();
    println!();
    Ok(kept)
}

async fn phases(processes: usize) -> Result<bool, BoxError> {
    let issuer = issuer(Duration::from_millis(200))
        .expires_in(LIFE)
        .start()
        .await?;
    let api = Api::builder().tokens(issuer.tokens()).start().await?;
    let mut redis = Redis::start()?;
    let task = task(&issuer, &api, &redis);
    let mut fleet = Fleet::start(&task, processes)?;
    let mut kept = true;
    let mut asked = 0;
    for phase in Phase::ALL {
        let began = Instant::now();
        match phase {
            Phase::Cold => {
                fleet.served(processes).await;
                sleep((LIFE / 2).saturating_sub(began.elapsed())).await;
            }
            Phase::Calm => sleep(2 * LIFE).await,
            Phase::Recovered => sleep(LIFE).await,
            Phase::Killed => {
                for _ in 0..8 {
                    sleep(LIFE / 4).await;
                    fleet.replace_one(&task)?;
                }
            }
            Phase::Stopped => {
                redis.stop()?;
                sleep(2 * LIFE).await;
                redis.resume()?;
            }
            Phase::Restarted => {
                redis.kill()?;
                sleep(LIFE).await;
                redis.restart()?;
                sleep(LIFE).await;
            }
        }
        let elapsed = began.elapsed();
        let token_requests = issuer.stats().requests - asked;
        asked += token_requests;
        let failed = fleet.take_failed();
        let row = Row {
            what: phase.name().to_owned(),
            elapsed,
            token_requests,
            at_most: phase.max_requests(elapsed, processes as u64),
            failed,
            is_met: failed == 0,
        };
        kept &= row.print();
    }
    fleet.kill()?;
    Ok(kept)
}

/// What happens to the fleet, one after the other.
#[derive(Clone, Copy)]
enum Phase {
    Cold,
    Calm,
    Killed,
    Stopped,
    Recovered,
    Restarted,
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::Cold,
        Self::Calm,
        Self::Killed,
        Self::Stopped,
        Self::Recovered,
        Self::Restarted,
        Self::Recovered,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold start of all processes; half a token lifetime",
            Self::Calm => "no failure; two token lifetimes",
            Self::Killed => "8 processes are killed and replaced; two token lifetimes",
            Self::Stopped => "Redis does not respond; two token lifetimes",
            Self::Recovered => "Redis responds again; one token lifetime",
            Self::Restarted => "Redis is killed and restarted empty; two token lifetimes",
        }
    }

    /// One token request for each renewal, after four fifths of a life at the latest and three quarters at the earliest;
    /// two where the one who asks is killed; one for each process without the store.
    fn max_requests(self, elapsed: Duration, processes: u64) -> u64 {
        let renewals = elapsed.div_duration_f64(LIFE * 3 / 4).ceil() as u64;
        match self {
            Self::Cold => 1,
            // At a change of phase one more may fall into it.
            Self::Calm | Self::Recovered => renewals + 1,
            Self::Killed => 2 * renewals + 1,
            Self::Stopped | Self::Restarted => renewals * processes,
        }
    }
}

/// The process that fetches for all is killed during its fetch.
async fn killed_leader(processes: usize) -> Result<Row, BoxError> {
    let takes = Duration::from_secs(1);
    let issuer = issuer(takes).start().await?;
    let api = Api::builder().tokens(issuer.tokens()).start().await?;
    let redis = Redis::start()?;
    let mut fleet = Fleet::start(&task(&issuer, &api, &redis), processes)?;
    fleet.kill_leader().await?;
    let killed = Instant::now();
    fleet.served(processes - 1).await;
    let waited = killed.elapsed();
    fleet.kill()?;
    let failed = fleet.take_failed();
    Ok(Row {
        what: "cold start; the fetching process is killed; until all others have a token"
            .to_owned(),
        elapsed: waited,
        token_requests: issuer.stats().requests,
        at_most: 2,
        failed,
        // The others check again within 375 ms, and then the request itself takes its time.
        is_met: failed == 0 && waited <= LEASE + takes + Duration::from_secs(1),
    })
}

/// The API rejects every token.
async fn rejected_token(processes: usize) -> Result<Row, BoxError> {
    let issuer = issuer(Duration::from_millis(200)).start().await?;
    let api = Api::builder().start().await?;
    api.always(Some(ApiFault::status(http::StatusCode::UNAUTHORIZED)));
    let redis = Redis::start()?;
    let began = Instant::now();
    let mut fleet = Fleet::start(&task(&issuer, &api, &redis), processes)?;
    sleep(Duration::from_secs(13)).await;
    let elapsed = began.elapsed();
    let token_requests = issuer.stats().requests;
    fleet.kill()?;
    // The first, its successor, and one after each cooldown, of which each is twice as long as the one before.
    let cooldowns = (elapsed.div_duration_f64(COOLDOWN) + 1.0).log2().floor() as u64;
    Ok(Row {
        what: format!(
            "the API returns 401 to every request; cooldowns of at least {} s",
            COOLDOWN.as_secs()
        ),
        elapsed,
        token_requests,
        at_most: 2 + cooldowns,
        failed: fleet.take_failed(),
        is_met: true,
    })
}

fn task(issuer: &Issuer, api: &Api, redis: &Redis) -> Task {
    Task {
        token_url: issuer.token_url(),
        api_url: api.url(),
        redis_url: redis.url(),
        requests: None,
        quotas: Quotas::ByItself,
    }
}
