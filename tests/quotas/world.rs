//! Partitions by path, and an API that rejects one request.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use http::{Request, StatusCode};
use tower_m2m::{
    RateLimitRetryLayer,
    rate_limit_retry::{PartitionKey, QuotaStatus, RateLimitRetryLayerBuilder},
};

use crate::support::{Body, Inner, serving, status_only};

pub(crate) fn by_path() -> RateLimitRetryLayerBuilder {
    RateLimitRetryLayer::builder().partition_by(|parts| PartitionKey::from(parts.uri.path()))
}

pub(crate) fn status(layer: &RateLimitRetryLayer, name: &str) -> QuotaStatus {
    let mut all = layer.handle().status().into_iter();
    all.find(|status| status.partition().as_str() == name)
        .unwrap()
}

/// Rejects the first request for `path`.
pub(crate) fn throttling_once(
    path: &'static str,
    headers: &[(&'static str, &'static str)],
) -> (Inner, Arc<AtomicUsize>) {
    let headers = headers.to_vec();
    let refused = Arc::new(AtomicUsize::new(0));
    serving(move |request: Request<Body>| {
        let refuse = request.uri().path() == path && refused.fetch_add(1, SeqCst) == 0;
        let mut response = status_only(StatusCode::OK);
        if refuse {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            for (name, value) in &headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
        }
        std::future::ready(response)
    })
}
