//! HubSpot: requests in 10 s, and per day for the account.
//!
//! The fields name the window in milliseconds, and no reset. The daily limit resets at midnight in the time zone of the account; only
//! the body of its 429 says so (`"policyName":"DAILY"`). The search API has no fields.
//!
//! Sources: <https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines>,
//! <https://developers.hubspot.com/changelog/2018-11-06-rate-limit-information-headers-will-be-included-in-http-responses>, 2026-12.

use tower::{
    ServiceBuilder,
    layer::util::{Identity, Stack},
};
use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::PeekBodyLayer};

/// Waits for the next 10 s, and not for the next day.
pub fn layers() -> ServiceBuilder<Stack<PeekBodyLayer, Stack<RateLimitRetryLayer, Identity>>> {
    let limits = RateLimitRetryLayer::builder()
        .is_permanent(|error| error.body().windows(7).any(|window| window == b"\"DAILY\""))
        .build();
    ServiceBuilder::new()
        .layer(limits)
        .layer(PeekBodyLayer::new())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::double::{Api, Left, Reply, Window, gets};

    const CONTACTS: &str = "https://api.hubapi.com/crm/v3/objects/contacts";

    /// 100 requests in 10 s, of which 5 are left.
    fn hubspot() -> Api {
        let window = Window::new(100, Duration::from_secs(10), 95);
        Api::new(move |_, now| {
            let Left {
                accepted,
                remaining,
                ..
            } = window.charge(now, 1);
            let fields = vec![
                ("x-hubspot-ratelimit-daily", "250000".into()),
                ("x-hubspot-ratelimit-daily-remaining", "249000".into()),
                ("x-hubspot-ratelimit-interval-milliseconds", "10000".into()),
                ("x-hubspot-ratelimit-max", "100".into()),
                ("x-hubspot-ratelimit-remaining", remaining.to_string()),
            ];
            let body = match accepted {
                true => "{}",
                false => {
                    r#"{"status":"error","errorType":"RATE_LIMIT","policyName":"TEN_SECONDLY_ROLLING"}"#
                }
            };
            Reply(if accepted { 200 } else { 429 }, fields, body.into())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_the_next_ten_seconds_and_none_is_refused() {
        let (api, layers) = (hubspot(), layers());

        api.send(&layers, gets(CONTACTS, 1)).await;
        assert_eq!(api.send(&layers, gets(CONTACTS, 20)).await, [200; 20]);

        assert_eq!(api.rejected(), 0);
        assert!(api.elapsed() >= Duration::from_secs(10));
    }

    /// Nothing is left of the day.
    fn exhausted() -> Api {
        Api::new(|_, _| {
            let body = r#"{"status":"error","message":"You have reached your daily limit.","errorType":"RATE_LIMIT","policyName":"DAILY"}"#;
            Reply(429, vec![], body.into())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_day_is_not_waited_for() {
        let (api, layers) = (exhausted(), layers());

        assert_eq!(api.send(&layers, gets(CONTACTS, 1)).await, [429]);

        assert_eq!(api.rejected(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_setting_the_request_is_retried_in_vain() {
        let (api, layer) = (exhausted(), RateLimitRetryLayer::new());

        assert_eq!(api.send(&layer, gets(CONTACTS, 1)).await, [429]);

        assert!(api.rejected() > 1);
    }
}
