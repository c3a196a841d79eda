//! Drops a token when the certificate that it is bound to is replaced (RFC 8705 §6.2).
//!
//! The certificate is read while requests are sent, on a separate task and at most every 5 s. Requests with bearer
//! tokens, and with tokens that are bound to a key, never get here.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use super::{TokenEvent, TokenSource, cache::CachedToken, refresher::Refresher};
use crate::{catch_panic::catch_panic, clock::add_capped, sync::lock};

impl Refresher {
    /// Starts a check whether the certificate of `token` has been replaced, if one is due. Never waits.
    ///
    /// Without a runtime no check is made.
    #[cold]
    pub(super) fn watch_certificate(self: &Arc<Self>, token: &Arc<CachedToken>, now: Instant) {
        {
            let mut due = lock(&self.certificate_due);
            match *due {
                Some(at) if now < at => return,
                // A new token needs no check: its certificate has just been read.
                None => {
                    *due = Some(add_capped(now, CHECK_INTERVAL));
                    return;
                }
                Some(_) => *due = Some(add_capped(now, CHECK_INTERVAL)),
            }
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let check = Arc::clone(self).check_certificate(Arc::clone(token));
        self.register(&runtime.spawn(check).abort_handle());
    }

    /// Drops the token and fetches another one, if its certificate has been replaced.
    ///
    /// A check that takes too long, or a source that panics, leaves the token in use.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the token in use, or the fetch of the next one running.
    async fn check_certificate(self: Arc<Self>, token: Arc<CachedToken>) {
        let check = catch_panic(self.source.is_still_bound(&token.token));
        let Ok(Some(false)) = timeout(CHECK_TIMEOUT, check).await else {
            return;
        };
        if !self.cache.invalidate_token(token.fingerprint) {
            return;
        }
        let credential = self.cache.settings().credential.as_deref();
        self.sinks
            .emit(&TokenEvent::CertificateChanged { credential });
        // Before the next request needs it. Callers that need it now wait for the same fetch, and get its error.
        drop(self.get().await);
    }
}

/// Minimum interval between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum duration of a check, which reads a certificate and its key.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);
