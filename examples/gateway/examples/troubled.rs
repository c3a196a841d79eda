//! cargo run -p gateway --example troubled
//!
//! An issuer and two APIs that have their troubles, one after the other, for `observe.py`. The first lines say where they
//! are; it ends with its standard input.

use std::{io, time::Duration};

use http::StatusCode;
use tokio::time::sleep;
use tower_m2m::{
    BoxError,
    test_util::{Api, ApiFault, Dialect, Fault, Issuer, Quota},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let issuer = Issuer::builder()
        .client("acme", "acme-secret")
        .client("globex", "globex-secret")
        .expires_in(Duration::from_secs(8))
        .latency(Duration::from_millis(20));
    let issuer = issuer.start().await?;
    let api = |quota| {
        let api = Api::builder().tokens(issuer.tokens()).quota(quota);
        let api = api.dialect(Dialect::Draft3);
        api.latency(Duration::from_millis(30)).start()
    };
    // One quota is above the load, the other below.
    let plenty = api(Quota::token_bucket(1000, 500.0)).await?;
    let scarce = api(Quota::fixed_window(20, Duration::from_secs(4))).await?;
    println!(
        "{}\n{}\n{}",
        issuer.token_url(),
        plenty.origin(),
        scarce.origin()
    );

    let stopped = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink()));
    tokio::select! {
        ended = stopped => drop(ended??),
        () = troubles(&issuer, &plenty, &scarce) => {}
    }
    Ok(())
}

async fn troubles(issuer: &Issuer, plenty: &Api, scarce: &Api) {
    loop {
        seconds(1).await;
        plenty.next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 1));
        seconds(2).await;
        issuer.revoke_all();
        seconds(1).await;
        // Once is repeated within the fetch; a while of it is a failure.
        issuer.next(Fault::status(StatusCode::SERVICE_UNAVAILABLE));
        seconds(5).await;
        for _ in 0..3 {
            plenty.next(ApiFault::status(StatusCode::BAD_GATEWAY));
        }
        // Longer than the gateway waits.
        scarce.next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 6));
        seconds(1).await;
        issuer.always(Some(Fault::status(StatusCode::INTERNAL_SERVER_ERROR)));
        seconds(7).await;
        issuer.always(None);
        seconds(3).await;
    }
}

async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}
