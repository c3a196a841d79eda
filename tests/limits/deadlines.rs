//! Calls that may take only so long.

use http::StatusCode;
use tokio::time::{Instant, sleep};
use tower::Layer;
use tower_m2m::{
    RateLimitRetryLayer,
    rate_limit_retry::{DeadlineExceeded, GaveUp, GiveUpReason},
};

use crate::{
    support::{SECOND, answering, get, send, status_only},
    world::limited,
};

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_an_attempt_and_says_whether_it_may_have_been_processed() {
    let (inner, _) = answering(|_| async {
        sleep(60 * SECOND).await;
        status_only(StatusCode::OK)
    });
    let service = RateLimitRetryLayer::builder()
        .deadline(10 * SECOND)
        .build()
        .layer(inner);
    let began = Instant::now();

    let error = send(&service, get("/")).await.unwrap_err();

    assert!(
        error
            .downcast::<DeadlineExceeded>()
            .unwrap()
            .possibly_processed()
    );
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_the_deadline_returns_at_once() {
    let (inner, _) = limited(|| true, "20");
    let service = RateLimitRetryLayer::builder()
        .deadline(10 * SECOND)
        .build()
        .layer(inner);

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(
        GaveUp::of(&response).unwrap().reason(),
        GiveUpReason::Deadline
    );
}
