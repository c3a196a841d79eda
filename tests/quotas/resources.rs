//! A server with a quota for each part of its API, which names the one that has counted the request.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use http::{Request, StatusCode};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};
use tower_m2m::{
    RateLimitRetryLayer,
    rate_limit_retry::{PartitionKey, RateLimitRetry, StoredQuotas},
    test_util::MemoryQuotaStore,
};

use crate::support::{API, Body, Inner, SECOND, get, send, serving, spawn, status_only};

/// The server: 3 searches a minute, 1,000 other requests an hour, and no limit for `/status`. With `blocked`, all are
/// rejected without a name.
fn api(blocked: Arc<Mutex<bool>>) -> Inner {
    // What was used since when.
    let used = Arc::new(Mutex::new([(0_u32, Instant::now()); 2]));
    let (inner, _) = serving(move |request: Request<Body>| {
        let mut response = status_only(StatusCode::OK);
        let path = request.uri().path();
        let search = path.starts_with("/search");
        let (name, limit, reset) = if search {
            ("search", 3, 60)
        } else {
            ("core", 1000, 3600)
        };
        let mut used = used.lock().unwrap();
        let (used, since) = &mut used[usize::from(search)];
        if since.elapsed() >= reset * SECOND {
            (*used, *since) = (0, Instant::now());
        }
        let left = (reset * SECOND).saturating_sub(since.elapsed());
        let left = left.as_secs_f64().ceil() as u32;
        if *blocked.lock().unwrap() {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response.headers_mut().insert("retry-after", 30.into());
        } else {
            if *used == limit {
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                response.headers_mut().insert("retry-after", left.into());
            } else {
                *used += 1;
            }
            let headers = response.headers_mut();
            headers.insert("x-ratelimit-resource", name.parse().unwrap());
            headers.insert("x-ratelimit-limit", limit.into());
            headers.insert("x-ratelimit-remaining", (limit - *used).into());
            headers.insert("x-ratelimit-reset", left.into());
        }
        async move {
            sleep(SECOND / 100).await;
            response
        }
    });
    inner
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_named_quota_holds_its_routes_and_no_others() {
    let layer = RateLimitRetryLayer::new();
    let service = layer.layer(api(Arc::default()));
    drop(send(&service, get("/users/me")).await.unwrap());
    for _ in 0..3 {
        drop(send(&service, get("/search/code")).await.unwrap());
    }
    let began = Instant::now();

    let search = spawn(&service, get("/search/code"));
    for _ in 0..50 {
        let response = send(&service, get("/users/me")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert!(!search.is_finished());

    let quotas = layer.handle().status();
    let left = |name: &str| {
        let name = PartitionKey::new(format!("{API} {name}"));
        let quota = quotas.iter().find(|quota| *quota.partition() == name)?;
        quota.remaining()
    };
    assert_eq!(left("search"), Some(0));
    assert_eq!(left("core"), Some(949));
    search.abort();
}

#[tokio::test(start_paused = true)]
async fn a_route_never_seen_waits_for_all_named_quotas() {
    let service = RateLimitRetryLayer::new().layer(api(Arc::default()));
    drop(send(&service, get("/users/me")).await.unwrap());
    for _ in 0..3 {
        drop(send(&service, get("/search/code")).await.unwrap());
    }
    let began = Instant::now();

    drop(send(&service, get("/repos/mine")).await.unwrap());
    assert!(began.elapsed() >= 59 * SECOND, "{:?}", began.elapsed());
    let known = Instant::now();
    drop(send(&service, get("/repos/mine")).await.unwrap());
    assert!(known.elapsed() < SECOND, "{:?}", known.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_429_without_a_name_holds_all_routes() {
    let blocked = Arc::new(Mutex::new(false));
    let service = RateLimitRetryLayer::new().layer(api(Arc::clone(&blocked)));
    for path in ["/users/me", "/search/code", "/users/me"] {
        drop(send(&service, get(path)).await.unwrap());
    }
    *blocked.lock().unwrap() = true;
    let refused = spawn(&service, get("/users/me"));
    sleep(SECOND).await;
    *blocked.lock().unwrap() = false;
    let began = Instant::now();

    drop(send(&service, get("/search/code")).await.unwrap());

    assert!(began.elapsed() >= 28 * SECOND, "{:?}", began.elapsed());
    drop(refused.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_when_the_partition_is_divided_keep_waiting() {
    let service = RateLimitRetryLayer::new().layer(api(Arc::default()));
    // The searches are used up before another quota is known.
    for _ in 0..3 {
        drop(send(&service, get("/search/code")).await.unwrap());
    }
    let began = Instant::now();
    let searches: Vec<_> = (0..3)
        .map(|_| spawn(&service, get("/search/code")))
        .collect();
    let other = spawn(&service, get("/users/me"));
    // All wait: whether the other route has a quota of its own is not known.
    sleep(SECOND).await;
    assert!(!other.is_finished());
    drop(other.await.unwrap());

    for search in searches {
        assert_eq!(search.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert!(began.elapsed() >= 59 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_divided_partition_can_be_forgotten() {
    let layer = RateLimitRetryLayer::new();
    let service = layer.layer(api(Arc::default()));
    for path in ["/users/me", "/search/code"] {
        drop(send(&service, get(path)).await.unwrap());
    }
    layer.handle().forget(&PartitionKey::new(API));
    for _ in 0..2 {
        drop(send(&service, get("/search/code")).await.unwrap());
    }
    let began = Instant::now();

    // What is announced after that counts again.
    drop(send(&service, get("/search/code")).await.unwrap());

    assert!(began.elapsed() >= 59 * SECOND, "{:?}", began.elapsed());
}

/// Two processes of a fleet, and the number of requests that the server has rejected.
fn fleet() -> ([RateLimitRetry<Inner>; 2], Arc<AtomicUsize>) {
    let rejected = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&rejected);
    let counted = api(Arc::default()).map_response(move |response| {
        count.fetch_add(usize::from(!response.status().is_success()), SeqCst);
        response
    });
    let inner = BoxCloneSyncService::new(counted);
    let store = MemoryQuotaStore::new();
    store.set_latency(SECOND / 500);
    let process = |_| {
        let quotas = StoredQuotas::new("fleet", store.clone());
        let layer = RateLimitRetryLayer::builder().store(quotas).build();
        layer.layer(inner.clone())
    };
    ([0, 1].map(process), rejected)
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_named_quota_holds_its_routes_in_all_processes() {
    let ([one, other], rejected) = fleet();
    // The other process has seen one route when the first one finds out that there are two quotas.
    drop(send(&other, get("/users/me")).await.unwrap());
    drop(send(&one, get("/users/me")).await.unwrap());
    for _ in 0..3 {
        drop(send(&one, get("/search/code")).await.unwrap());
    }
    sleep(SECOND).await;
    let began = Instant::now();

    for process in [&one, &other] {
        for _ in 0..20 {
            drop(send(process, get("/users/me")).await.unwrap());
        }
    }
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!(rejected.load(SeqCst), 0);
    // The first search of the other process shows which quota counts it.
    let searches: Vec<_> = (0..3).map(|_| spawn(&other, get("/search/code"))).collect();
    for search in searches {
        assert_eq!(search.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert!(began.elapsed() >= 58 * SECOND, "{:?}", began.elapsed());
    assert!(rejected.load(SeqCst) <= 1, "{rejected:?}");
}

#[tokio::test(start_paused = true)]
async fn processes_share_each_named_quota() {
    let ([one, other], rejected) = fleet();
    for process in [&one, &other] {
        for path in ["/users/me", "/search/code"] {
            drop(send(process, get(path)).await.unwrap());
        }
    }
    sleep(SECOND).await;
    let began = Instant::now();

    // One search is left, and three more are accepted after the reset.
    let searches: Vec<_> = [&one, &other, &one, &other]
        .map(|process| spawn(process, get("/search/code")))
        .into();
    for search in searches {
        assert_eq!(search.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    assert!(began.elapsed() >= 58 * SECOND, "{:?}", began.elapsed());
    assert_eq!(rejected.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_new_to_a_route_holds_no_other_routes() {
    // `/users` is counted by another quota each time, as its header `x-name` says.
    let (inner, _) = serving(|request: Request<Body>| {
        let name = request.headers().get("x-name").cloned();
        let mut response = status_only(StatusCode::OK);
        let headers = response.headers_mut();
        let remaining = if name.as_ref().is_some_and(|name| name == "search") {
            0
        } else {
            100
        };
        headers.insert("x-ratelimit-resource", name.unwrap());
        headers.insert("x-ratelimit-limit", 100.into());
        headers.insert("x-ratelimit-remaining", remaining.into());
        headers.insert("x-ratelimit-reset", 60.into());
        async move { response }
    });
    let service = RateLimitRetryLayer::new().layer(inner);
    let request = |path: &str, name: &str| {
        let mut request = get(path);
        request
            .headers_mut()
            .insert("x-name", name.parse().unwrap());
        request
    };
    for (path, name) in [("/users", "core"), ("/repos", "repos"), ("/find", "search")] {
        drop(send(&service, request(path, name)).await.unwrap());
    }

    // The quota is known, and not as one that counts this route.
    drop(send(&service, request("/users", "search")).await.unwrap());
    let began = Instant::now();
    drop(send(&service, request("/repos", "repos")).await.unwrap());

    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}
