//! Azure OpenAI: requests and tokens per minute for each deployment.
//!
//! Resets are seconds, `-1` means unknown, and `retry-after-ms` is more exact than `retry-after`. Requests are counted for periods of 1 s
//! or 10 s as well, so a burst can be refused while much of the minute is left.
//!
//! Source: <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/quota>, 2026-12.

use http::request::Parts;
use tower_m2m::{
    RateLimitRetryLayer,
    rate_limit_retry::{Cost, PartitionKey},
};

/// One partition for each deployment. Costs as for [`openai`](super::openai); the token is that of
/// [`entra`](crate::token_endpoints::entra) with the scope `https://cognitiveservices.azure.com/.default`.
pub fn layer() -> RateLimitRetryLayer {
    RateLimitRetryLayer::builder()
        .partition_by(deployment)
        .cost(|head| head.extensions.get::<Cost>().cloned().unwrap_or_default())
        .build()
}

/// The deployment in `/openai/deployments/NAME/chat/completions`.
fn deployment(head: &Parts) -> PartitionKey {
    let host = head.uri.host().unwrap_or_default();
    let name = head.uri.path().split('/').nth(3).unwrap_or_default();
    format!("{host} {name}").into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::*;
    use crate::double::{Api, Reply, request};

    const LARGE: &str = "https://acme.openai.azure.com/openai/deployments/large/chat/completions";
    const SMALL: &str = "https://acme.openai.azure.com/openai/deployments/small/chat/completions";
    const WAIT: Duration = Duration::from_millis(6500);

    /// The deployment `large` is exhausted for 6.5 s.
    fn azure() -> Api {
        Api::new(
            |head, now| match head.uri.path().contains("large") && now < WAIT {
                true => {
                    let fields = vec![
                        ("retry-after-ms", "6500".into()),
                        ("retry-after", "7".into()),
                        ("x-ratelimit-limit-tokens", "-1".into()),
                        ("x-ratelimit-remaining-tokens", "-1".into()),
                        ("x-ratelimit-reset-tokens", "0".into()),
                    ];
                    Reply(429, fields, r#"{"error":{"code":"429"}}"#.into())
                }
                false => Reply(
                    200,
                    vec![("x-ratelimit-remaining-requests", "19".into())],
                    String::new(),
                ),
            },
        )
    }

    /// Sends a request to `large`, and another to `small` a little later. Returns when the latter was answered.
    async fn beside(layer: RateLimitRetryLayer) -> Duration {
        let api = azure();
        let large = api.send(&layer, [request(Method::POST, LARGE)]);
        let small = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(
                api.send(&layer, [request(Method::POST, SMALL)]).await,
                [200]
            );
            api.elapsed()
        };
        let (large, small) = tokio::join!(large, small);

        assert_eq!(large, [200]);
        assert_eq!(api.rejected(), 1);
        assert!(
            (WAIT..Duration::from_secs(7))
                .contains(&api.elapsed().min(Duration::from_millis(6999)))
        );
        small
    }

    #[tokio::test(start_paused = true)]
    async fn an_exhausted_deployment_does_not_hold_another() {
        assert!(beside(layer()).await < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn without_partitions_it_does() {
        assert!(beside(RateLimitRetryLayer::new()).await >= WAIT);
    }
}
