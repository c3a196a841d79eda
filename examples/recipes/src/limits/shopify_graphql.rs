//! Shopify's GraphQL Admin API: points that refill, announced in the body.
//!
//! The bucket must hold the *requested* cost of a query; the difference to the actual cost comes back. A refused query is a 200 with
//! `THROTTLED`, which no layer of HTTP retries: its costs prevent it. Plans have 100 to 2,000 points per second.
//!
//! Source: <https://shopify.dev/docs/api/usage/limits>, 2026-12.

use tower::{
    ServiceBuilder,
    layer::util::{Identity, Stack},
};
use tower_m2m::{
    RateLimitRetryLayer,
    rate_limit_retry::{Cost, ReadUsageLayer},
};

/// Put `Cost::new().with("points", requested)` into the extensions of each request. `requestedQueryCost` of an earlier response has
/// the number.
pub fn layers() -> ServiceBuilder<Stack<ReadUsageLayer, Stack<RateLimitRetryLayer, Identity>>> {
    let limits = RateLimitRetryLayer::builder()
        .cost(|head| head.extensions.get::<Cost>().cloned().unwrap_or_default())
        .build();
    // Reads `extensions.cost`: the quota `points`, and what the query has cost.
    ServiceBuilder::new()
        .layer(limits)
        .layer(ReadUsageLayer::new())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Method, Request};
    use http_body_util::Full;

    use super::*;
    use crate::double::{Api, Bucket, Left, Reply, request};

    fn query() -> Request<Full<Bytes>> {
        let url = "https://acme.myshopify.com/admin/api/2026-10/graphql.json";
        let mut request = request(Method::POST, url);
        request
            .extensions_mut()
            .insert(Cost::new().with("points", 300));
        request
    }

    /// 2,000 points, and 100 per second.
    fn shopify() -> Api {
        let bucket = Bucket::new(2000.0, 100.0, 2000.0);
        Api::new(move |_, now| {
            let Left {
                accepted,
                remaining,
                ..
            } = bucket.charge(now, 300);
            eprintln!("{now:?} {accepted} {remaining}");
            let (errors, actual) = match accepted {
                true => ("", "300"),
                false => (
                    r#""errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}],"#,
                    "null",
                ),
            };
            let body = format!(
                r#"{{{errors}"extensions":{{"cost":{{"requestedQueryCost":300,"actualQueryCost":{actual},"throttleStatus":
                {{"maximumAvailable":2000.0,"currentlyAvailable":{remaining},"restoreRate":100.0}}}}}}}}"#
            );
            Reply(200, vec![], body)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn queries_wait_for_points_and_none_is_throttled() {
        let (api, layers) = (shopify(), layers());

        api.send(&layers, [query()]).await;
        api.send(&layers, (0..19).map(|_| query())).await;

        assert_eq!(api.rejected(), 0);
        assert!(api.elapsed() >= Duration::from_secs(40));
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_settings_queries_are_throttled() {
        let (api, layer) = (shopify(), RateLimitRetryLayer::new());

        api.send(&layer, (0..20).map(|_| query())).await;

        assert!(api.rejected() > 0);
    }
}
