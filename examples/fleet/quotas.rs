//! The second act: one quota.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tower_m2m::{
    BoxError,
    test_util::{Api, Dialect, Quota},
};

use crate::{
    child::{Quotas, Task},
    fleet::Fleet,
    issuer,
    redis::Redis,
};

const PROCESSES: usize = 8;
const LIMIT: u32 = 300;
const WINDOW: Duration = Duration::from_secs(30);
/// What the API takes for a request.
const LATENCY: Duration = Duration::from_millis(20);

/// Whether all promises were kept.
pub(crate) async fn one_quota() -> Result<bool, BoxError> {
    println!(
        "{PROCESSES} processes, {LIMIT} requests allowed every {} s",
        WINDOW.as_secs()
    );
    println!(
        "| quota | requests | makespan | optimum | ratio | rejected | token requests | failed requests | met |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let exact = Quotas::Exact(LIMIT, WINDOW.as_secs());
    let (alone, shared, exact) = tokio::join!(
        play(Quotas::ByItself, 75),
        play(Quotas::Shared, 75),
        play(exact, 40),
    );
    let kept = alone? & shared? & exact?;
    println!(
        "\nThe optimum includes the time in which the requests of a window are sent, and the end of the window as the API \
         announces it: in whole seconds, rounded up. An exact quota is paced evenly, and uses nine tenths of the limit."
    );
    Ok(kept)
}

async fn play(quotas: Quotas, requests: usize) -> Result<bool, BoxError> {
    let issuer = issuer(Duration::from_millis(200)).start().await?;
    let api = Api::builder()
        .tokens(issuer.tokens())
        .quota(Quota::fixed_window(LIMIT, WINDOW))
        .dialect(Dialect::Draft3)
        .latency(LATENCY)
        .start()
        .await?;
    let redis = Redis::start()?;
    let task = Task {
        token_url: issuer.token_url(),
        api_url: api.url(),
        redis_url: redis.url(),
        requests: Some(requests),
        quotas,
    };
    let mut fleet = Fleet::start(&task, PROCESSES)?;
    while api.stats().requests == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let began = Instant::now();
    let all = PROCESSES * requests;
    let first = all.min(LIMIT as usize) as u64;
    let first_window = async {
        while api.stats().ok < first {
            sleep(Duration::from_millis(1)).await;
        }
        began.elapsed()
    };
    let (used_up, ()) = tokio::join!(first_window, fleet.ended());
    let took = began.elapsed();
    let failed = fleet.take_failed();
    let seen = api.stats();
    // All but the last window pass. The response that finds a window used up announces its end in whole seconds, rounded
    // up: no client that follows the API's announcements can know the end better. In the last window, each process
    // sends its part, one request after the other.
    let windows = all.div_ceil(LIMIT as usize) as u32;
    let announced = WINDOW.saturating_sub(used_up).as_secs_f64().ceil();
    let window = used_up + Duration::from_secs_f64(announced);
    let optimum = window * (windows - 1) + LATENCY * LIMIT / PROCESSES as u32;
    let (name, max_requests) = match quotas {
        Quotas::ByItself => ("without sharing", u64::MAX),
        // 0.2 %.
        Quotas::Shared => ("through Redis", all as u64 / 500),
        Quotas::Exact(..) => ("through Redis, exact", 0),
    };
    let kept = failed == 0 && seen.rate_limited <= max_requests;
    println!(
        "| {name} | {all} | {:.2} s | {:.2} s | {:.3} | {} | {} | {failed} | {} |",
        took.as_secs_f64(),
        optimum.as_secs_f64(),
        took.div_duration_f64(optimum),
        seen.rate_limited,
        issuer.stats().requests,
        if kept { "yes" } else { "NO" },
    );
    Ok(kept)
}
