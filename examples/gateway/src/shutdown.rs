//! Shutdown: all parts concurrently, within a time limit.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{sleep, timeout_at};

use crate::{Gateway, now};

impl Gateway {
    /// Says no at `/readyz` for `drain_delay`, then refuses connections, waits for the requests in flight, and ends the
    /// work on tokens; all that takes at most `shutdown_timeout`. Tokens are revoked at the end, those of all tenants at
    /// once, where `revoke_on_shutdown` is set.
    pub async fn shutdown(mut self) {
        self.app.draining.store(true, Relaxed);
        sleep(self.drain_delay).await;
        let began = now();
        let (for_calls, for_all) = shares(self.shutdown_timeout);

        if timeout_at(began + for_calls, self.callers.stop())
            .await
            .is_err()
        {
            tracing::warn!("in-flight requests aborted after `shutdown_timeout`");
            self.app.aborted.store(true, Relaxed);
            self.callers.abort().await;
        }
        self.keepers.abort_all();
        let mut ending = std::mem::take(&mut self.retiring);
        for tenant in &self.app.routes().tenants {
            if tenant.credential.is_some() {
                let tenant = Arc::clone(tenant);
                ending.spawn(async move {
                    if let Some(credential) = &tenant.credential {
                        credential.tokens.shutdown().await;
                    }
                });
            }
        }
        let ended = async { while ending.join_next().await.is_some() {} };
        if timeout_at(began + for_all, ended).await.is_err() {
            let tokens = ending.len();
            tracing::warn!(tokens, "revocations aborted after `shutdown_timeout`");
        }
    }
}

/// For how long requests may go on, and when everything is over: revocations, which come after the requests, have
/// something left in any case.
fn shares(timeout: Duration) -> (Duration, Duration) {
    // What a far future adds to a clock overflows.
    let timeout = timeout.min(Duration::from_secs(60 * 60 * 24));
    (timeout - (timeout / 4).min(LEFT_TO_REVOCATIONS), timeout)
}

/// Maximum time that is kept for revocations: an attempt takes no longer.
const LEFT_TO_REVOCATIONS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_reserves_time_for_revocations() {
        for (timeout, calls) in [(0, 0), (2, 1_500), (30, 25_000), (600, 595_000)] {
            let shares = shares(Duration::from_secs(timeout));

            let calls = Duration::from_millis(calls);
            assert_eq!(shares, (calls, Duration::from_secs(timeout)));
        }
        assert!(shares(Duration::MAX).1 < Duration::MAX);
    }
}
