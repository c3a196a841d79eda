//! Slack: a limit for each method of the Web API and each workspace, of which only `Retry-After` is known.
//!
//! Methods have tiers of about 1, 20, 50 or 100 requests per minute; `chat.postMessage` about one per second and channel.
//!
//! Source: <https://docs.slack.dev/apis/web-api/rate-limits>, 2026-12.

use tower_m2m::RateLimitRetryLayer;

/// One partition for each method. For several workspaces, add the workspace to the key.
pub fn layer() -> RateLimitRetryLayer {
    RateLimitRetryLayer::builder()
        .partition_by(|head| head.uri.path().into())
        .build()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::*;
    use crate::double::{Api, Reply, request};

    const LIST: &str = "https://slack.com/api/conversations.list";
    const POST: &str = "https://slack.com/api/chat.postMessage";
    const WAIT: Duration = Duration::from_secs(30);

    /// `conversations.list` is exhausted for 30 s.
    fn slack() -> Api {
        Api::new(
            |head, now| match head.uri.path().ends_with("list") && now < WAIT {
                true => Reply(
                    429,
                    vec![("retry-after", "30".into())],
                    r#"{"ok":false,"error":"ratelimited"}"#.into(),
                ),
                false => Reply(200, vec![], r#"{"ok":true}"#.into()),
            },
        )
    }

    /// Posts a message a second after a list was refused. Returns when it was posted.
    async fn beside(layer: RateLimitRetryLayer) -> Duration {
        let api = slack();
        let list = api.send(&layer, [request(Method::GET, LIST)]);
        let post = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(api.send(&layer, [request(Method::POST, POST)]).await, [200]);
            api.elapsed()
        };
        let (list, post) = tokio::join!(list, post);

        assert_eq!(list, [200]);
        assert_eq!(api.rejected(), 1);
        assert!(api.elapsed() >= WAIT);
        post
    }

    #[tokio::test(start_paused = true)]
    async fn an_exhausted_method_does_not_hold_another() {
        assert!(beside(layer()).await < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn without_partitions_it_does() {
        assert!(beside(RateLimitRetryLayer::new()).await >= WAIT);
    }
}
