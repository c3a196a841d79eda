//! GitHub's REST API: a quota for each resource, such as `core` and `search`, and secondary limits that no field announces.
//!
//! Both are refused with 403 or 429. The quota `core` may take an hour to come back, so a job needs a higher `max_wait`. A secondary
//! limit has `retry-after` and leaves `x-ratelimit-remaining` above 0.
//!
//! Sources: <https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api>,
//! <https://docs.github.com/rest/rate-limit/rate-limit>, 2026-12.

use std::time::Duration;

use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::headers::Vendor};

/// Waits for up to an hour, as a job may. With the default, 2 min, a longer wait is an error at once.
pub fn layer() -> RateLimitRetryLayer {
    RateLimitRetryLayer::builder()
        // The lengths of the windows, which no response names.
        .profile(Vendor::GITHUB)
        .max_wait(Duration::from_secs(61 * 60))
        .build()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::double::{Api, Left, Reply, Window, date, gets};

    const CORE: &str = "https://api.github.com/repos/acme/orders/issues";
    const SEARCH: &str = "https://api.github.com/search/issues";
    const HOUR: Duration = Duration::from_secs(3600);

    /// Other programs have used most of both quotas.
    fn github() -> Api {
        let core = Window::new(5000, HOUR, 4997);
        let search = Window::new(30, Duration::from_secs(60), 28);
        Api::new(move |head, now| {
            let (
                name,
                limit,
                Left {
                    accepted,
                    remaining,
                    reset,
                },
            ) = match head.uri.path().starts_with("/search") {
                true => ("search", 30, search.charge(now, 1)),
                false => ("core", 5000, core.charge(now, 1)),
            };
            let reset = httpdate::HttpDate::from(date(now + reset));
            let reset = std::time::SystemTime::from(reset).duration_since(std::time::UNIX_EPOCH);
            let fields = vec![
                ("x-ratelimit-limit", format!("{limit}")),
                ("x-ratelimit-remaining", remaining.to_string()),
                ("x-ratelimit-used", (limit - remaining).to_string()),
                ("x-ratelimit-reset", reset.unwrap().as_secs().to_string()),
                ("x-ratelimit-resource", name.to_owned()),
            ];
            Reply(if accepted { 200 } else { 403 }, fields, String::new())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_core_and_none_is_refused() {
        let (api, layer) = (github(), layer());

        assert_eq!(api.send(&layer, gets(CORE, 1)).await, [200]);
        assert_eq!(api.send(&layer, gets(CORE, 5)).await, [200; 5]);

        assert_eq!(api.rejected(), 0);
        assert!(api.elapsed() >= HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_setting_a_wait_of_an_hour_is_an_error() {
        let (api, layer) = (github(), RateLimitRetryLayer::new());

        api.send(&layer, gets(CORE, 1)).await;
        let mut statuses = api.send(&layer, gets(CORE, 5)).await;

        statuses.sort_unstable();
        assert_eq!(statuses, [0, 0, 0, 200, 200]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_exhausted_search_does_not_hold_core() {
        let (api, layer) = (github(), layer());
        api.send(&layer, gets(CORE, 1)).await;
        api.send(&layer, gets(SEARCH, 1)).await;
        api.send(&layer, gets(SEARCH, 1)).await;

        assert_eq!(api.send(&layer, gets(CORE, 1)).await, [200]);
        assert!(api.elapsed() < Duration::from_secs(1));

        assert_eq!(api.send(&layer, gets(SEARCH, 1)).await, [200]);
        assert!(api.elapsed() >= Duration::from_secs(59));
        assert_eq!(api.rejected(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_secondary_limit_is_waited_out() {
        let minute = Duration::from_secs(60);
        let api = Api::new(move |_, now| match now < minute {
            true => {
                let fields = vec![
                    ("retry-after", "60".into()),
                    ("x-ratelimit-remaining", "4310".into()),
                ];
                let body = r#"{"message":"You have exceeded a secondary rate limit."}"#;
                Reply(StatusCode::FORBIDDEN.as_u16(), fields, body.into())
            }
            false => Reply(200, vec![], String::new()),
        });
        let layer = layer();

        assert_eq!(api.send(&layer, gets(CORE, 1)).await, [200]);
        assert_eq!(api.send(&layer, gets(CORE, 9)).await, [200; 9]);

        assert_eq!(api.rejected(), 1);
        assert!(api.elapsed() >= minute);
    }
}
