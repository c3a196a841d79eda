//! Any bytes in any field, and how long a caller waits because of them.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use proptest::prelude::*;
use tokio::{runtime::Builder, time::Instant};
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::RateLimited};

use super::properties::{name, value};

type Body = Full<Bytes>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_field_makes_a_caller_wait_longer_than_max_wait(
        status in prop_oneof![Just(429), Just(503), 200..600u16],
        fields in prop::collection::vec((name(), value()), 0..6),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&value)) {
                headers.append(name, value);
            }
        }
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(waits(StatusCode::from_u16(status).unwrap(), headers));
    }
}

async fn waits(status: StatusCode, headers: HeaderMap) {
    let inner = service_fn(move |_: Request<Body>| {
        let mut response = Response::new(Body::default());
        *response.status_mut() = status;
        response.headers_mut().clone_from(&headers);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let layer = RateLimitRetryLayer::builder();
    let layer = layer.max_retries(1).max_wait(MAX_WAIT).build();
    let service = layer.layer(inner);
    for _ in 0..4 {
        let began = Instant::now();
        let request = Request::get("https://api.example.com/").body(Body::default());

        let outcome = service.clone().oneshot(request.unwrap()).await;

        // One wait before the first attempt, and one between the two.
        assert!(began.elapsed() <= 2 * MAX_WAIT + MAX_WAIT / 100);
        if let Err(error) = outcome {
            assert!(error.is::<RateLimited>(), "{error}");
        }
    }
}

const MAX_WAIT: Duration = Duration::from_secs(30);
