//! Anthropic: requests, input tokens and output tokens per minute, each a bucket that refills continuously.
//!
//! Resets are dates (RFC 3339) at which the bucket is full; what remains is rounded to thousands. `retry-after` is exact. A 529
//! (`overloaded_error`) is not a limit of yours: it is retried with a back-off if the method is idempotent, or if Anthropic sends
//! `x-should-retry: true`.
//!
//! Source: <https://docs.claude.com/en/api/rate-limits>, 2026-12.

use tower::{
    ServiceBuilder,
    layer::util::{Identity, Stack},
};
use tower_m2m::{
    RateLimitRetryLayer,
    rate_limit_retry::{Cost, ReadUsageLayer},
};

/// Put `Cost::new().with("input-tokens", estimate).with("output-tokens", max_tokens)` into the extensions of each request.
pub fn layers() -> ServiceBuilder<Stack<ReadUsageLayer, Stack<RateLimitRetryLayer, Identity>>> {
    let limits = RateLimitRetryLayer::builder()
        .cost(|head| head.extensions.get::<Cost>().cloned().unwrap_or_default())
        .build();
    // Reads `usage` of the response, also at the end of a stream. Tokens from the cache do not count.
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
    use jiff::Timestamp;

    use super::*;
    use crate::double::{Api, Bucket, Left, Reply, date, request};

    fn message(input: u64) -> Request<Full<Bytes>> {
        let mut request = request(Method::POST, "https://api.anthropic.com/v1/messages");
        let cost = Cost::new()
            .with("input-tokens", input)
            .with("output-tokens", 100);
        request.extensions_mut().insert(cost);
        request.headers_mut().insert("x-input", input.into());
        request
    }

    /// 30,000 input tokens per minute.
    fn anthropic(left: f64) -> Api {
        let input = Bucket::new(30_000.0, 500.0, left);
        Api::new(move |head, now| {
            let tokens = head.headers["x-input"].to_str().unwrap().parse().unwrap();
            let Left {
                accepted,
                remaining,
                reset,
            } = input.charge(now, tokens);
            let full = Timestamp::try_from(date(now + reset)).unwrap();
            let full = full.round(jiff::Unit::Second).unwrap().to_string();
            let mut fields = vec![
                ("anthropic-ratelimit-requests-limit", "50".into()),
                ("anthropic-ratelimit-requests-remaining", "49".into()),
                ("anthropic-ratelimit-requests-reset", full.clone()),
                ("anthropic-ratelimit-input-tokens-limit", "30000".into()),
                (
                    "anthropic-ratelimit-input-tokens-remaining",
                    (remaining / 1000 * 1000).to_string(),
                ),
                ("anthropic-ratelimit-input-tokens-reset", full),
            ];
            if !accepted {
                fields.push(("retry-after", "8".into()));
            }
            let body = format!(
                r#"{{"usage":{{"input_tokens":{tokens},"cache_read_input_tokens":9000,"output_tokens":80}}}}"#
            );
            Reply(if accepted { 200 } else { 429 }, fields, body)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_input_tokens_and_none_is_refused() {
        let (api, layers) = (anthropic(10_000.0), layers());

        api.send(&layers, [message(500)]).await;
        let sent = (0..10).map(|_| message(4000));
        assert_eq!(api.send(&layers, sent).await, [200; 10]);

        assert_eq!(api.rejected(), 0);
        // 40,000 tokens at 500 in a second, less those that were left.
        assert!(api.elapsed() >= Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn without_costs_requests_are_refused() {
        let (api, layer) = (anthropic(30_000.0), RateLimitRetryLayer::new());

        for _ in 0..5 {
            api.send(&layer, [message(500)]).await;
        }
        // They look like all others.
        api.send(&layer, (0..30).map(|_| message(4000))).await;

        assert!(api.rejected() > 0);
    }
}
