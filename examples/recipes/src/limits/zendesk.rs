//! Zendesk: requests per minute for the account, and further limits for some endpoints.
//!
//! `X-Rate-Limit` is the limit, not what remains. The limit of an endpoint has a field of its own
//! (`zendesk-ratelimit-tickets-index: total=100; remaining=99; resets=41`). A 429 has `Retry-After`. No setting is needed.
//!
//! Source: <https://developer.zendesk.com/documentation/ticketing/using-the-zendesk-api/best-practices-for-avoiding-rate-limiting/>,
//! 2026-12.

use tower_m2m::RateLimitRetryLayer;

/// The defaults.
pub fn layer() -> RateLimitRetryLayer {
    RateLimitRetryLayer::new()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::double::{Api, Left, Reply, Window, gets};

    const TICKETS: &str = "https://acme.zendesk.com/api/v2/tickets";
    const MINUTE: Duration = Duration::from_secs(60);

    /// 700 requests per minute, and 100 for the list of tickets, of which 5 are left.
    fn zendesk() -> Api {
        let (account, tickets) = (Window::new(700, MINUTE, 0), Window::new(100, MINUTE, 95));
        Api::new(move |_, now| {
            let account = account.charge(now, 1);
            let Left {
                accepted,
                remaining,
                reset,
            } = tickets.charge(now, 1);
            let resets = reset.as_secs_f64().ceil();
            let mut fields = vec![
                ("x-rate-limit", "700".into()),
                ("ratelimit-limit", "700".into()),
                ("x-rate-limit-remaining", account.remaining.to_string()),
                ("ratelimit-remaining", account.remaining.to_string()),
                ("ratelimit-reset", resets.to_string()),
                (
                    "zendesk-ratelimit-tickets-index",
                    format!("total=100; remaining={remaining}; resets={resets}"),
                ),
            ];
            if !accepted {
                fields.push(("retry-after", resets.to_string()));
            }
            Reply(if accepted { 200 } else { 429 }, fields, String::new())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_of_the_endpoint_is_kept() {
        let (api, layer) = (zendesk(), layer());

        api.send(&layer, gets(TICKETS, 1)).await;
        assert_eq!(api.send(&layer, gets(TICKETS, 20)).await, [200; 20]);

        assert_eq!(api.rejected(), 0);
        assert!(api.elapsed() >= MINUTE);
    }
}
