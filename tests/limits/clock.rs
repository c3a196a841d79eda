//! How often a request reads the clock, which is most of the limiter's cost per request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::SystemTime,
};

use http::StatusCode;
use tokio::time::Instant;
use tower::Layer;
use tower_m2m::{BoxError, Clock, M2mLayer, RateLimitRetryLayer};

use crate::support::{Client, HOUR, Inner, Source, get, layer, send, serving, status_only};

#[tokio::test(start_paused = true)]
async fn the_fast_path_reads_no_clock() {
    let clock = Counting::default();
    let limits = RateLimitRetryLayer::builder().clock(clock.clone()).build();
    let service = limits.layer(silent());

    assert!(reads(&clock, &service).await.unwrap() > 0);
    for _ in 0..1005 {
        send(&service, get("/")).await.unwrap();
    }

    assert_eq!(reads(&clock, &service).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_read_once_with_a_token() {
    let clock = Counting::default();
    let limits = RateLimitRetryLayer::builder().clock(clock.clone()).build();
    let source = Source::with_lifetime(HOUR);
    let both = M2mLayer::new(limits, layer(&source).clock(clock.clone()).build());
    let service = both.layer(silent());
    for _ in 0..1005 {
        send(&service, get("/")).await.unwrap();
    }

    assert_eq!(reads(&clock, &service).await.unwrap(), 1);
}

/// Of one request.
async fn reads(clock: &Counting, service: &impl Client) -> Result<usize, BoxError> {
    let before = clock.0.load(SeqCst);
    send(service, get("/")).await?;
    Ok(clock.0.load(SeqCst) - before)
}

fn silent() -> Inner {
    serving(|_| std::future::ready(status_only(StatusCode::OK))).0
}

#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Clock for Counting {
    fn now(&self) -> Instant {
        self.0.fetch_add(1, SeqCst);
        Instant::now()
    }

    fn wall_clock(&self) -> SystemTime {
        self.0.fetch_add(1, SeqCst);
        SystemTime::UNIX_EPOCH
    }
}
