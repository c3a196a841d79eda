//! Jira Cloud: a quota of points per hour, requests per second for each endpoint and method, and writes to each issue.
//!
//! `RateLimit-Reason` names the one that refused a request, and `Retry-After` the wait. Resets are dates without seconds. A burst
//! concerns one endpoint and method only, so these are the partitions.
//!
//! Sources: <https://developer.atlassian.com/cloud/jira/platform/rate-limiting/>,
//! <https://developer.atlassian.com/cloud/jira/platform/build-an-app-that-respects-rate-limits/>, 2026-12.

use http::request::Parts;
use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::PartitionKey};

/// One partition for each endpoint and method.
pub fn layer() -> RateLimitRetryLayer {
    RateLimitRetryLayer::builder()
        .partition_by(endpoint)
        .build()
}

/// `PUT /rest/api/3/issue` for `PUT /rest/api/3/issue/KEY-1`.
fn endpoint(head: &Parts) -> PartitionKey {
    let host = head.uri.host().unwrap_or_default();
    let path: Vec<_> = head.uri.path().split('/').take(5).collect();
    format!("{host} {} {}", head.method, path.join("/")).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::*;
    use crate::double::{Api, Reply, date, request};

    const SEARCH: &str = "https://acme.atlassian.net/rest/api/3/search/jql";
    const ISSUE: &str = "https://acme.atlassian.net/rest/api/3/issue/KEY-1";
    const WAIT: Duration = Duration::from_secs(20);

    /// Searches are refused for 20 s.
    fn jira() -> Api {
        Api::new(
            |head, now| match head.uri.path().contains("search") && now < WAIT {
                true => {
                    let reset = jiff::Timestamp::try_from(date(WAIT))
                        .unwrap()
                        .strftime("%Y-%m-%dT%H:%MZ")
                        .to_string();
                    let fields = vec![
                        ("retry-after", "20".into()),
                        ("x-ratelimit-limit", "350".into()),
                        ("x-ratelimit-remaining", "0".into()),
                        ("x-ratelimit-reset", reset),
                        ("ratelimit-reason", "jira-burst-based".into()),
                    ];
                    Reply(429, fields, String::new())
                }
                false => Reply(
                    200,
                    vec![
                        ("x-ratelimit-limit", "350".into()),
                        ("x-ratelimit-remaining", "349".into()),
                    ],
                    String::new(),
                ),
            },
        )
    }

    /// Reads an issue a second after a search was refused. Returns when it was read.
    async fn beside(layer: RateLimitRetryLayer) -> Duration {
        let api = jira();
        let search = api.send(&layer, [request(Method::POST, SEARCH)]);
        let issue = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(api.send(&layer, [request(Method::GET, ISSUE)]).await, [200]);
            api.elapsed()
        };
        let (search, issue) = tokio::join!(search, issue);

        assert_eq!(search, [200]);
        assert_eq!(api.rejected(), 1);
        assert!(api.elapsed() >= WAIT);
        issue
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_at_one_endpoint_does_not_hold_another() {
        assert!(beside(layer()).await < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn without_partitions_it_does() {
        assert!(beside(RateLimitRetryLayer::new()).await >= WAIT);
    }
}
