//! Rate limiters that accept five requests in ten seconds. Resets announced in whole seconds, rounded up, cost up to a
//! second in each window: time / optimum cannot be below 1.1 in the worst case.

#![expect(
    clippy::disallowed_methods,
    reason = "how long it takes against a real server"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tower::{ServiceBuilder, ServiceExt};
use tower_m2m::RateLimitRetryLayer;

use crate::{
    servers::{Inner, Servers, http},
    table::{Finished, Table},
};

/// Five windows' worth of requests, the first of which is sent immediately.
const REQUESTS: usize = 25;
const OPTIMUM: Duration = Duration::from_secs(40);
/// Where eight in twenty seconds are the limit as well.
const OPTIMUM_OF_TWO: Duration = Duration::from_secs(60);
const WORKERS: usize = 10;

pub(crate) async fn table(servers: &Servers) -> Finished {
    let columns = &["finished", "refused", "time / optimum"];
    let mut table = Table::new("10 workers, 25 requests", columns);
    let mut limiters = servers.all("limits");
    limiters.extend(servers.all("envoy_limits"));
    let flask = servers.get("flask_api", "api");
    limiters.push(("Flask-Limiter, HTTP-date".into(), format!("{flask}/date")));
    limiters.push(("Flask-Limiter".into(), flask));
    limiters.push(("slowapi".into(), servers.get("slow_api", "api")));
    let django = format!("{}/throttled", servers.get("django_api", "api"));
    limiters.push(("Django REST framework".into(), django));
    for status in ["429", "503"] {
        let nginx = servers.get("nginx", status);
        limiters.push((format!("nginx, bare {status}"), nginx));
    }
    for (limiter, url) in limiters {
        let limited = Limited::new(format!("{url}/orders"));
        let optimum = if limiter.contains("two policies") {
            OPTIMUM_OF_TWO
        } else {
            OPTIMUM
        };
        table.row(limiter, limited.run(optimum));
    }
    table.finish().await
}

/// A client of one limiter.
#[derive(Clone)]
struct Limited {
    url: String,
    service: Inner,
    refused: Arc<AtomicUsize>,
}

impl Limited {
    fn new(url: String) -> Self {
        let refused = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&refused);
        let service = ServiceBuilder::new()
            .layer(
                RateLimitRetryLayer::builder()
                    .max_retries(40)
                    .max_wait(10 * OPTIMUM)
                    .build(),
            )
            .map_response(move |response: Response<Incoming>| {
                count.fetch_add(usize::from(!response.status().is_success()), SeqCst);
                response
            })
            .service(http(&Arc::default()));
        Self {
            url,
            service: Inner::new(service),
            refused,
        }
    }

    async fn run(self, optimum: Duration) -> [String; 3] {
        let began = Instant::now();
        let left = Arc::new(AtomicUsize::new(REQUESTS));
        let worker = |_| {
            let (client, left) = (self.clone(), Arc::clone(&left));
            let another = move || left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
            tokio::spawn(async move {
                let mut finished = 0;
                while another().is_ok() {
                    finished += usize::from(client.get().await == StatusCode::OK);
                }
                finished
            })
        };
        let mut finished = 0;
        for worker in (0..WORKERS).map(worker).collect::<Vec<_>>() {
            finished += worker.await.unwrap();
        }
        let took = began.elapsed();
        let refused = self.refused.load(SeqCst);
        let ratio = took.as_secs_f64() / optimum.as_secs_f64();
        assert_eq!(finished, REQUESTS, "{refused} refused");
        // A bare 503 means a failing server and holds only the request that received it: each worker probes on its own.
        assert!(refused <= 10 * REQUESTS, "{refused} refused, {took:.1?}");
        assert!(ratio < 1.6, "{refused} refused, {took:.1?}");
        [
            finished.to_string(),
            refused.to_string(),
            format!("{ratio:.2}"),
        ]
    }

    async fn get(&self) -> StatusCode {
        let request = Request::get(&self.url).body(Full::default()).unwrap();
        let response = self.service.clone().oneshot(request).await;
        response.unwrap_or_else(|error| panic!("{error}")).status()
    }
}
