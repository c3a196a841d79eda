//! Retries within one fetch: transient errors, then the last accepted secret if the current one is rejected.
//!
//! Two kinds of failures lead to another attempt. A transient error is retried after a delay, up to the configured
//! number of times. Rejected credentials are replaced without a delay: by newly read ones, then by the fallback.
//! Neither counts as a retry. Both are bounded, because the credentials are read again at most once.
//!
//! With the default of two retries, a fetch makes at most six token requests: the first, two retries, one with
//! credentials that were read again, and one with the fallback before and after that. Rejected DPoP proofs add at most
//! two, and a rejected identity assertion one. Together they count as one failure.
//!
//! Each attempt exchanges at most one subject token at the identity provider, and asks for metadata at most once. Neither
//! is counted here: see `identity_assertion` and `discovery`.

use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Location, TokenEndpoint,
    auth::ClientAuthentication,
    fetch::FailedAttempt,
    fetch_key::FetchKey,
    transport::{ReadyClient, Transport},
};
use crate::{
    backoff::Backoff,
    client_credentials::{
        AccessToken, CacheKey, FetchContext, RevokeContext, TokenError, TokenErrorKind, TokenEvent,
        TokenSource, context::SourceContext, proof::MAX_PROOF_RETRIES,
    },
    clock::add_capped,
};

impl TokenSource for TokenEndpoint {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        if let (Location::Resource(discovery), Some(rejected)) = (&self.location, cx.rejected()) {
            discovery.on_rejected(rejected.challenges());
        }
        let token = match cx.token_scope() {
            None => self.fetch_with_retries(cx.surroundings()).await,
            Some(scope) => {
                let scoped = self.for_scope(scope);
                scoped.fetch_with_retries(cx.surroundings()).await
            }
        };
        token.map_err(|error| self.with_endpoint(error))
    }

    /// A change of any secret, of the grant's tokens or of the certificate ends the backoff after a permanent failure.
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

    /// Revocation is opt-in; see [`TokenEndpoint::revoke_on_shutdown`].
    fn revokes(&self) -> bool {
        self.revocation.is_some()
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        self.compute_cache_key().await
    }

    fn bind_stored(&self, token: AccessToken) -> AccessToken {
        self.bind_stored(token)
    }

    #[cfg(feature = "https")]
    async fn is_still_bound(&self, token: &AccessToken) -> bool {
        self.is_still_bound(token).await
    }
}

impl TokenEndpoint {
    /// Makes attempts until one succeeds or nothing is left to try.
    ///
    /// If the server rejects the credentials, they are read again once, because they may have been replaced meanwhile.
    /// If they have not changed, the credentials that last obtained a token are tried: during a rotation the server may
    /// not know the new ones yet.
    ///
    /// | failure | first | again |
    /// |---|---|---|
    /// | transient, no `Retry-After` | retry after a delay | the same, while retries are left |
    /// | `invalid_client`, the secret has changed | retry at once | not a second time |
    /// | `invalid_client`, a fallback is available | retry at once with the fallback | only after the secret was read again |
    /// | a rejected DPoP proof, and the server has sent a nonce or its time | retry at once | once more |
    /// | `invalid_grant` for a cached identity assertion | retry at once with a new one | error |
    /// | any other | error | error |
    ///
    /// # Errors
    ///
    /// The error of the last attempt, with the number of token requests that were sent. If both the current credentials
    /// and the fallback are rejected, the error of the current ones.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt in flight. The server may have issued a token that is then lost.
    async fn fetch_with_retries(&self, cx: &SourceContext<'_>) -> Result<AccessToken, TokenError> {
        self.validate()?;
        self.report_warnings(cx);
        // An unreadable certificate does not fail the fetch while a client with an earlier one exists.
        let ReadyClient {
            transport,
            stale_reason: missed,
            certificate,
        } = self.client.ready().await?;
        let certificates = self.fetch_certificates(certificate).await?;
        let uses_stale_certificate = missed.is_some();
        if let Some(error) = missed {
            self.emit_fallback_used(error, cx);
        }
        // Number of retries after transient errors. Rejections are not counted.
        let mut retries = 0;
        let key = self.fetch_key()?;
        // Number of further attempts because of rejected proofs. They do not count as retries: the response names the
        // cause.
        let mut proofs = 0;
        // Whether a new assertion was requested because a cached one was rejected. At most once.
        let mut renewed_assertion = false;
        // Number of token requests sent, for the error.
        let mut requests = 0;
        // Number of times that the server rejected the credentials.
        let mut rejections = 0;
        // Whether the credentials were read again after a rejection. At most once, which bounds the loop.
        let mut read_again = false;
        // The rejection of the current credentials. While it is set, the fallback credentials are used.
        let mut rejected = None;
        loop {
            let use_fallback = rejected.is_some();
            let failed = match self
                .attempt_with_timeout(&transport, retries, requests, use_fallback, &key, cx)
                .await
            {
                Ok(token) => {
                    let token = self.check_binding(token, certificates, cx).await;
                    let token = token.map_err(|error| error.with_requests(requests + 1))?;
                    // Other processes may have the new certificate already, so this token belongs to another cache key.
                    return Ok(match uses_stale_certificate {
                        true => token.unshareable(),
                        false => token,
                    });
                }
                Err(failed) => failed,
            };
            // An attempt that failed before its request, for example at a secret, cost the server nothing.
            requests += u32::from(failed.request_sent);
            let failed = FailedAttempt {
                error: failed.error.with_requests(requests),
                ..failed
            };
            if failed.needs_new_proof && proofs < MAX_PROOF_RETRIES {
                proofs += 1;
            } else if failed.needs_new_assertion && !renewed_assertion {
                renewed_assertion = true;
                self.grant.forget();
            } else if failed.error.kind() == TokenErrorKind::InvalidClient {
                rejections += 1;
                // The file may have been replaced between the read and the rejection.
                if !read_again && self.auth.changed().await {
                    read_again = true;
                    rejected = None;
                } else if failed.has_fallback && rejected.is_none() {
                    self.emit_fallback_used(failed.error.clone(), cx);
                    rejected = Some(failed.error);
                } else {
                    // Report the rejection of the current secret, which is the one that the operator can fix.
                    let error = rejected.unwrap_or(failed.error).with_requests(requests);
                    // A rejection without an error code counts as permanent if other credentials are rejected as well.
                    return Err(if rejections > 1 {
                        error.into_permanent()
                    } else {
                        error
                    });
                }
            } else if retries < self.retries && is_retryable(&failed.error) {
                retries += 1;
                self.wait_before_retry(failed.error, retries, cx).await?;
            } else {
                return Err(failed.error);
            }
        }
    }

    /// Makes one attempt. If retries are left, the first attempt gets half of the remaining time, so that a hanging
    /// request can be replaced by another.
    ///
    /// Later attempts have no limit of their own: the deadline of the fetch ends them. `requests` is the number of requests
    /// that were sent before.
    ///
    /// # Errors
    ///
    /// The error of the attempt, or a timeout, which counts as a request that was sent.
    async fn attempt_with_timeout(
        &self,
        transport: &Transport,
        retries: u32,
        requests: u32,
        use_fallback: bool,
        key: &FetchKey,
        cx: &SourceContext<'_>,
    ) -> Result<AccessToken, FailedAttempt> {
        // The last possible attempt gets all the remaining time.
        if retries > 0 || self.retries == 0 {
            return self
                .attempt(transport, requests, use_fallback, key, cx.deadline(), cx)
                .await;
        }
        let now = cx.clock().now();
        let limit = time_left(now, cx) / 2;
        let deadline = add_capped(now, limit);
        // The attempt has the same deadline for waits without a request, such as a signer. The attempt is polled before
        // the timer, so that its own error, which names what is late, takes precedence.
        timeout_at(
            deadline,
            self.attempt(transport, requests, use_fallback, key, deadline, cx),
        )
        .await
        .unwrap_or_else(|_| {
            Err(FailedAttempt {
                error: TokenError::timeout(limit),
                request_sent: true,
                needs_new_proof: false,
                needs_new_assertion: false,
                has_fallback: false,
            })
        })
    }

    /// Waits before the next attempt. Returns `error` if the time left is too short.
    ///
    /// Emits an event before the delay, so that a slow fetch is explained while it runs.
    ///
    /// The delay is random between half and the whole of 500 ms, 1 s and then 2 s.
    async fn wait_before_retry(
        &self,
        error: TokenError,
        attempt: u32,
        cx: &SourceContext<'_>,
    ) -> Result<(), TokenError> {
        let wait = RETRY_BACKOFF.wait(attempt, cx.random());
        // An attempt that would begin after the deadline cannot succeed.
        if wait >= time_left(cx.clock().now(), cx) {
            return Err(error);
        }
        let error = self.with_endpoint(error);
        cx.emit(|credential| TokenEvent::FetchRetrying {
            credential,
            attempt,
            wait,
            error: &error,
        });
        sleep(wait).await;
        Ok(())
    }

    /// Emits an event: fallback credentials are used because of `error`.
    ///
    /// Also called for a certificate that could not be read, whose earlier version is used instead.
    pub(super) fn emit_fallback_used(&self, error: TokenError, cx: &SourceContext<'_>) {
        let error = self.with_endpoint(error);
        cx.emit(|credential| TokenEvent::FallbackSecretUsed {
            credential,
            error: &error,
        });
    }
}

/// Returns the time until the deadline of the fetch.
fn time_left(now: Instant, cx: &SourceContext<'_>) -> Duration {
    cx.deadline().saturating_duration_since(now)
}

/// Returns whether the error is transient: the same request may succeed soon, and the server did not ask for a longer
/// delay.
///
/// A 500 is not retried within a fetch.
///
/// Stricter than [`TokenError::is_transient`]: a 500, a throttled request or a malformed response is left to the
/// back-off of the layer, which is longer.
fn is_retryable(error: &TokenError) -> bool {
    let is_transient = match error.kind() {
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
    // The caller's backoff respects `Retry-After`, for which a fetch has no time.
    is_transient && error.retry_after().is_none()
}

/// Backoff between the attempts of one fetch: initial and maximum interval.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(2));

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
    async fn a_retry_has_the_remaining_time() {
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
    fn tokens_are_revoked_only_if_configured() {
        assert!(!endpoint().revokes());
        let at = http::Uri::from_static("https://id.example/revoke");
        assert!(endpoint().revoke_on_shutdown(at).revokes());
    }
}
