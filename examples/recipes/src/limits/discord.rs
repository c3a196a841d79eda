//! Discord: buckets whose routes the responses name, and 50 requests per second for all of them.
//!
//! The layer learns from `X-RateLimit-Bucket` which routes share a quota. Discord bans an address for 10,000 requests in 10 min that end
//! with 401, 403 or 429. The token of a bot goes with the scheme `Bot`:
//! `ClientCredentialsLayer::builder(AccessToken::new(token), origin).scheme("Bot")`.
//!
//! Source: <https://docs.discord.com/developers/topics/rate-limits>, 2026-12.

use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::LocalLimit};

/// The global limit, which no response announces.
pub fn layer() -> RateLimitRetryLayer {
    RateLimitRetryLayer::builder()
        .limit(LocalLimit::per_second(50))
        .build()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::double::{Api, Left, Reply, Window, date, gets};

    const CHANNEL: &str = "https://discord.com/api/v10/channels/1/messages";

    /// A bucket of 5 requests in 5 s.
    fn discord() -> Api {
        let window = Window::new(5, Duration::from_secs(5), 0);
        Api::new(move |_, now| {
            let Left {
                accepted,
                remaining,
                reset,
            } = window.charge(now, 1);
            let end = date(now + reset)
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap();
            let mut fields = vec![
                ("x-ratelimit-limit", "5".into()),
                ("x-ratelimit-remaining", remaining.to_string()),
                ("x-ratelimit-reset", format!("{:.3}", end.as_secs_f64())),
                (
                    "x-ratelimit-reset-after",
                    format!("{:.3}", reset.as_secs_f64()),
                ),
                ("x-ratelimit-bucket", "abcd1234".into()),
            ];
            if !accepted {
                fields.push(("retry-after", reset.as_secs_f64().ceil().to_string()));
            }
            Reply(if accepted { 200 } else { 429 }, fields, String::new())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_their_bucket_and_none_is_refused() {
        let (api, layer) = (discord(), layer());

        api.send(&layer, gets(CHANNEL, 1)).await;
        assert_eq!(api.send(&layer, gets(CHANNEL, 14)).await, [200; 14]);

        assert_eq!(api.rejected(), 0);
        assert!(api.elapsed() >= Duration::from_secs(10));
    }

    /// 50 requests per second, whatever the route.
    fn global() -> Api {
        let window = Window::new(50, Duration::from_secs(1), 0);
        Api::new(move |_, now| match window.charge(now, 1) {
            Left { accepted: true, .. } => Reply(200, vec![], String::new()),
            Left { reset, .. } => {
                let wait = reset.as_secs_f64().ceil().to_string();
                let fields = vec![
                    ("x-ratelimit-global", "true".into()),
                    ("x-ratelimit-scope", "global".into()),
                    ("retry-after", wait),
                ];
                Reply(
                    429,
                    fields,
                    r#"{"message":"You are being rate limited.","global":true}"#.into(),
                )
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_global_limit_is_kept() {
        let (api, layer) = (global(), layer());

        assert_eq!(api.send(&layer, gets(CHANNEL, 150)).await, [200; 150]);

        assert_eq!(api.rejected(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_setting_it_is_exceeded() {
        let (api, layer) = (global(), RateLimitRetryLayer::new());

        api.send(&layer, gets(CHANNEL, 150)).await;

        assert!(api.rejected() > 0);
    }
}
