//! Stripe: requests per second, and no field that announces them.
//!
//! A 429 has `Stripe-Rate-Limited-Reason` and no wait, so keep the limit yourself: 100 in a second, 25 in a sandbox. With an
//! `Idempotency-Key`, a POST is retried after a 5xx or a broken connection as well; `Stripe-Should-Retry` is followed.
//!
//! Sources: <https://docs.stripe.com/rate-limits>, <https://docs.stripe.com/api/idempotent_requests>, 2026-12.

use tower_m2m::{InvalidOrigin, RateLimitRetryLayer, rate_limit_retry::LocalLimit};

/// The limit of a sandbox.
pub fn layer() -> Result<RateLimitRetryLayer, InvalidOrigin> {
    let layer = RateLimitRetryLayer::builder()
        .limit(LocalLimit::per_second(25))
        .honors_idempotency_key("https://api.stripe.com".parse()?);
    Ok(layer.build())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Method, Request};
    use http_body_util::Full;

    use super::*;
    use crate::double::{Api, Reply, Window, request};

    fn charge() -> Request<Full<Bytes>> {
        let mut request = request(Method::POST, "https://api.stripe.com/v1/charges");
        request
            .headers_mut()
            .insert("idempotency-key", "order-1".parse().unwrap());
        request
    }

    fn stripe() -> Api {
        let window = Window::new(25, Duration::from_secs(1), 0);
        Api::new(move |_, now| match window.charge(now, 1).accepted {
            true => Reply(200, vec![], "{}".into()),
            false => {
                let fields = vec![("stripe-rate-limited-reason", "global-rate".into())];
                Reply(429, fields, r#"{"error":{"code":"rate_limit"}}"#.into())
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_over_seconds_and_none_is_refused() {
        let (api, layer) = (stripe(), layer().unwrap());

        assert_eq!(api.send(&layer, (0..75).map(|_| charge())).await, [200; 75]);

        assert_eq!(api.rejected(), 0);
        assert!(api.elapsed() >= Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_limit_requests_are_refused() {
        let (api, layer) = (stripe(), RateLimitRetryLayer::new());

        api.send(&layer, (0..75).map(|_| charge())).await;

        assert!(api.rejected() > 0);
    }

    /// The first response is a 503.
    fn unavailable_once() -> Api {
        let first = std::sync::atomic::AtomicBool::new(true);
        Api::new(move |_, _| {
            let first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
            Reply(if first { 503 } else { 200 }, vec![], String::new())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_post_with_a_key_is_retried_after_a_503() {
        let layer = layer().unwrap();

        assert_eq!(unavailable_once().send(&layer, [charge()]).await, [200]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_setting_it_is_not() {
        let layer = RateLimitRetryLayer::new();

        assert_eq!(unavailable_once().send(&layer, [charge()]).await, [503]);
    }
}
