//! Rate limiters that let five requests pass in two seconds.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
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

const ONE_BY_ONE: &str = "12 one by one";
const AT_ONCE: &str = "12 at once";
const REQUESTS: usize = 12;

pub(crate) async fn table(servers: &Servers) -> Finished {
    let mut table = Table::new("429s on the way", &[ONE_BY_ONE, AT_ONCE]);
    let mut limiters = servers.all("limits");
    let flask = servers.get("flask_api", "api");
    limiters.push((
        "Flask-Limiter, HTTP-date".to_owned(),
        format!("{flask}/date"),
    ));
    limiters.push(("Flask-Limiter".to_owned(), flask));
    let django = servers.get("django_api", "api");
    limiters.push((
        "Django REST framework".to_owned(),
        format!("{django}/throttled"),
    ));
    for (limiter, url) in limiters {
        let limited = Limited::new(format!("{url}/one-by-one"));
        table.cell(&*limiter, ONE_BY_ONE, limited.one_by_one());
        let limited = Limited::new(format!("{url}/at-once"));
        table.cell(&*limiter, AT_ONCE, limited.at_once());
    }
    table.finish().await
}

/// A client of one limiter.
#[derive(Clone)]
struct Limited {
    url: String,
    service: Inner,
    throttled: Arc<AtomicUsize>,
}

impl Limited {
    fn new(url: String) -> Self {
        let throttled = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&throttled);
        let service = ServiceBuilder::new()
            .layer(RateLimitRetryLayer::new())
            .map_response(move |response: Response<Incoming>| {
                if response.status() == StatusCode::TOO_MANY_REQUESTS {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                response
            })
            .service(http(&Arc::default()));
        Self {
            url,
            service: Inner::new(service),
            throttled,
        }
    }

    async fn get(&self) {
        let request = Request::get(&self.url).body(Full::default()).unwrap();
        let response = self.service.clone().oneshot(request).await;
        let response = response.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(response.status(), StatusCode::OK);
    }

    async fn one_by_one(self) -> usize {
        for _ in 0..REQUESTS {
            self.get().await;
        }
        self.throttled(3)
    }

    async fn at_once(self) -> usize {
        let requests = (0..REQUESTS).map(|_| {
            let client = self.clone();
            tokio::spawn(async move { client.get().await })
        });
        for request in requests.collect::<Vec<_>>() {
            request.await.unwrap();
        }
        self.throttled(REQUESTS)
    }

    /// How many 429s there were, if not more than `bound`.
    fn throttled(&self, bound: usize) -> usize {
        let throttled = self.throttled.load(Ordering::SeqCst);
        assert!(throttled <= bound, "{throttled} times 429");
        throttled
    }
}
