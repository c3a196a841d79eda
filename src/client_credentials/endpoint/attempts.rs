//! What one fetch tries: again after a hiccup, and the secret that worked last after a refusal.

use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    TokenEndpoint,
    auth::ClientAuthentication,
    fetch::Failed,
    transport::{Ready, Transport},
};
use crate::{
    backoff::Backoff,
    client_credentials::{
        AccessToken, CacheIdentity, FetchContext, RevokeContext, TokenError, TokenErrorKind,
        TokenEvent, TokenSource, context::Surroundings,
    },
    clock::after,
};

impl TokenSource for TokenEndpoint {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        let token = self.attempts(cx.surroundings()).await;
        token.map_err(|error| self.name(error))
    }

    async fn changed(&self) -> bool {
        self.auth.changed().await || self.grant.changed().await || self.client.changed().await
    }

    fn revoke<'a>(
        &'a self,
        token: &'a AccessToken,
        cx: RevokeContext<'a>,
    ) -> Option<impl Future<Output = Result<(), TokenError>> + Send + 'a> {
        let at = self.revocation.as_ref()?;
        Some(async move { self.revoke_at(at, token, cx.surroundings()).await })
    }

    fn revokes(&self) -> bool {
        self.revocation.is_some()
    }

    async fn cache_identity(&self) -> Option<CacheIdentity> {
        self.identify().await
    }
}

impl TokenEndpoint {
    /// Attempts, until there is a token or nothing is left to try.
    ///
    /// Refused credentials are read again once, in case they were replaced just now. Then those for which a token was
    /// granted last have their turn: a rotation may not have come to the server yet.
    async fn attempts(&self, cx: &Surroundings<'_>) -> Result<AccessToken, TokenError> {
        self.check()?;
        self.report_notes(cx);
        let Ready { transport, missed } = self.client.ready().await?;
        let old_certificate = missed.is_some();
        if let Some(error) = missed {
            self.tell_kept(error, cx);
        }
        let mut retries = 0;
        let mut requests = 0;
        let mut refusals = 0;
        let mut read_again = false;
        // Why the credentials of now are not used any more.
        let mut refused = None;
        loop {
            let kept = refused.is_some();
            let failed = match self.attempt_in_time(&transport, retries, kept, cx).await {
                Ok(token) if old_certificate => {
                    return Ok(token.unshareable());
                }
                Ok(token) => return Ok(token),
                Err(failed) => failed,
            };
            requests += u32::from(failed.asked);
            let failed = Failed {
                error: failed.error.with_requests(requests),
                ..failed
            };
            if failed.error.kind() == TokenErrorKind::CredentialsRefused {
                refusals += 1;
                if !read_again && self.auth.changed().await {
                    read_again = true;
                    refused = None;
                } else if failed.has_kept && refused.is_none() {
                    self.tell_kept(failed.error.clone(), cx);
                    refused = Some(failed.error);
                } else {
                    // The refusal of the secret of now is what somebody can do something about.
                    let error = refused.unwrap_or(failed.error).with_requests(requests);
                    // A refusal without a reason is a verdict if other credentials fare no better.
                    return Err(if refusals > 1 { error.lasting() } else { error });
                }
            } else if retries < self.retries && is_hiccup(&failed.error) {
                retries += 1;
                self.wait(failed.error, retries, cx).await?;
            } else {
                return Err(failed.error);
            }
        }
    }

    /// One attempt. If others may follow, the first has half of the time: a request that hangs is given up for another.
    async fn attempt_in_time(
        &self,
        transport: &Transport,
        retries: u32,
        kept: bool,
        cx: &Surroundings<'_>,
    ) -> Result<AccessToken, Failed> {
        if retries > 0 || self.retries == 0 {
            return self.attempt(transport, kept, cx.deadline(), cx).await;
        }
        let now = cx.clock().now();
        let limit = left(now, cx) / 2;
        let deadline = after(now, limit);
        // What an attempt waits for without a request, such as a signer, has the same deadline: it is polled first, and says
        // what is late.
        timeout_at(deadline, self.attempt(transport, kept, deadline, cx))
            .await
            .unwrap_or_else(|_| {
                Err(Failed {
                    error: TokenError::timeout(limit),
                    asked: true,
                    has_kept: false,
                })
            })
    }

    /// Waits before another attempt; or gives `error` back, if there is no time for one.
    async fn wait(
        &self,
        error: TokenError,
        attempt: u32,
        cx: &Surroundings<'_>,
    ) -> Result<(), TokenError> {
        let wait = HICCUP.wait(attempt, cx.random());
        if wait >= left(cx.clock().now(), cx) {
            return Err(error);
        }
        let error = self.name(error);
        cx.emit(|credential| TokenEvent::FetchRetrying {
            credential,
            attempt,
            wait,
            error: &error,
        });
        sleep(wait).await;
        Ok(())
    }

    /// Kept credentials are used instead of those of now, because of `error`.
    pub(super) fn tell_kept(&self, error: TokenError, cx: &Surroundings<'_>) {
        let error = self.name(error);
        cx.emit(|credential| TokenEvent::KeptSecretUsed {
            credential,
            error: &error,
        });
    }
}

fn left(now: Instant, cx: &Surroundings<'_>) -> Duration {
    cx.deadline().saturating_duration_since(now)
}

/// Whether the same request may go through in a moment, and nobody asked to wait for longer.
fn is_hiccup(error: &TokenError) -> bool {
    let passes = match error.kind() {
        TokenErrorKind::Timeout | TokenErrorKind::Transport => true,
        TokenErrorKind::SigningFailed => error.is_transient(),
        TokenErrorKind::Server => matches!(
            error.status(),
            Some(
                StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            )
        ),
        _ => false,
    };
    passes && error.retry_after().is_none()
}

const HICCUP: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(2));

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use tower::service_fn;

    use super::*;
    use crate::{
        BoxError, Clock, SystemClock,
        client_credentials::{ClientAuth, ClientCredentialsLayer},
    };

    fn endpoint() -> TokenEndpoint {
        let uri = http::Uri::from_static("https://id.example/token");
        TokenEndpoint::new(uri, ClientAuth::post("id", "secret"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_further_attempt_has_all_the_time_that_is_left() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let service = service_fn(|_: Request<Full<Bytes>>| async {
            let takes = if CALLS.fetch_add(1, SeqCst) == 0 {
                60
            } else {
                12
            };
            sleep(Duration::from_secs(takes)).await;
            let body = r#"{"access_token":"token","token_type":"Bearer","expires_in":300}"#;
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(body)))
        });
        let origin = "https://api.example".parse().unwrap();
        let layer = ClientCredentialsLayer::builder(endpoint().service(service), origin);
        let began = SystemClock.now();

        layer.build().handle().token().await.unwrap();

        // 15 s for the first, a moment, and 12 s.
        assert_eq!((SystemClock.now() - began).as_secs(), 27);
        assert_eq!(CALLS.load(SeqCst), 2);
    }

    #[test]
    fn only_an_endpoint_that_is_told_to_revokes_tokens() {
        assert!(!endpoint().revokes());
        let at = http::Uri::from_static("https://id.example/revoke");
        assert!(endpoint().revoke_on_shutdown(at).revokes());
    }
}
