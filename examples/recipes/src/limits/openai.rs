//! OpenAI: requests and tokens per minute, and a 429 that no wait helps against.
//!
//! A request counts with the larger of `max_completion_tokens` and an estimate of its text; failed requests count as well. Resets are
//! durations (`6m0s`) until the quota is full again. A 429 with `insufficient_quota` means that the account has no credit.
//!
//! Sources: <https://platform.openai.com/docs/guides/rate-limits>, <https://platform.openai.com/docs/guides/error-codes>, 2026-12.

use tower::{
    ServiceBuilder,
    layer::util::{Identity, Stack},
};
use tower_m2m::{
    RateLimitRetryLayer,
    rate_limit_retry::{Cost, PeekBodyLayer, ReadUsageLayer},
};

type Layers = Stack<PeekBodyLayer, Stack<ReadUsageLayer, Stack<RateLimitRetryLayer, Identity>>>;

/// Put `Cost::new().with("tokens", estimate)` into the extensions of each request.
pub fn layers() -> ServiceBuilder<Layers> {
    let limits = RateLimitRetryLayer::builder()
        .cost(|head| head.extensions.get::<Cost>().cloned().unwrap_or_default())
        .is_permanent(|error| contains(error.body(), b"insufficient_quota"))
        .build();
    ServiceBuilder::new()
        .layer(limits)
        // What the request has cost in the end, also of a stream with `"stream_options": {"include_usage": true}`.
        .layer(ReadUsageLayer::new())
        // The beginning of a 429, for `is_permanent`.
        .layer(PeekBodyLayer::new())
}

/// Whether `body` contains `word`.
fn contains(body: &[u8], word: &[u8]) -> bool {
    body.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use bytes::Bytes;
    use http::{Method, Request};
    use http_body_util::Full;

    use super::*;
    use crate::double::{Api, Bucket, Left, Reply, request};

    const URL: &str = "https://api.openai.com/v1/chat/completions";

    fn completion(tokens: u64) -> Request<Full<Bytes>> {
        let mut request = request(Method::POST, URL);
        request
            .extensions_mut()
            .insert(Cost::new().with("tokens", tokens));
        request.headers_mut().insert("x-tokens", tokens.into());
        request
    }

    /// 30,000 tokens per minute.
    fn openai(left: f64) -> Api {
        let bucket = Arc::new(Mutex::new(Bucket::new(30_000.0, 500.0, left)));
        Api::new(move |head, now| {
            let tokens = head.headers["x-tokens"].to_str().unwrap().parse().unwrap();
            let Left {
                accepted,
                remaining,
                reset,
            } = bucket.lock().unwrap().charge(now, tokens);
            let fields = vec![
                ("x-ratelimit-limit-requests", "500".into()),
                ("x-ratelimit-remaining-requests", "499".into()),
                ("x-ratelimit-reset-requests", "120ms".into()),
                ("x-ratelimit-limit-tokens", "30000".into()),
                ("x-ratelimit-remaining-tokens", remaining.to_string()),
                (
                    "x-ratelimit-reset-tokens",
                    format!("{}s", reset.as_secs_f64()),
                ),
            ];
            let body = format!(r#"{{"usage":{{"total_tokens":{tokens}}}}}"#);
            Reply(if accepted { 200 } else { 429 }, fields, body)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_tokens_and_none_is_refused() {
        let (api, layers) = (openai(4_000.0), layers());

        api.send(&layers, [completion(1000)]).await;
        let sent = (0..20).map(|_| completion(3000));
        assert_eq!(api.send(&layers, sent).await, [200; 20]);

        assert_eq!(api.rejected(), 0);
        // 63,000 tokens at 500 in a second, less those that were left, and a little for the refill that is to be learned.
        let seconds = api.elapsed().as_secs();
        assert!((114..150).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_costs_requests_are_refused() {
        let (api, layer) = (openai(30_000.0), RateLimitRetryLayer::new());

        for _ in 0..5 {
            api.send(&layer, [completion(100)]).await;
        }
        // They look like all others.
        api.send(&layer, (0..30).map(|_| completion(3000))).await;

        assert!(api.rejected() > 0);
    }

    /// An account without credit.
    fn without_credit() -> Api {
        Api::new(|_, _| {
            let body = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
            Reply(429, vec![], body.into())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_without_credit_is_not_waited_for() {
        let (api, layers) = (without_credit(), layers());

        assert_eq!(api.send(&layers, [completion(100)]).await, [429]);

        assert_eq!(api.rejected(), 1);
        assert!(api.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_setting_the_request_is_retried_in_vain() {
        let (api, layer) = (without_credit(), RateLimitRetryLayer::new());

        assert_eq!(api.send(&layer, [completion(100)]).await, [429]);

        assert!(api.rejected() > 1);
    }
}
