//! What one fetch tries: the secret of now, and the one that worked last.

use super::{TokenEndpoint, auth::ClientAuthentication};
use crate::client_credentials::{
    AccessToken, FetchContext, TokenError, TokenErrorKind, TokenEvent, TokenSource,
};

impl TokenSource for TokenEndpoint {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        self.attempts(&cx).await.map_err(|error| self.name(error))
    }

    async fn changed(&self) -> bool {
        self.auth.changed().await || self.grant.changed().await
    }
}

impl TokenEndpoint {
    /// Attempts, until there is a token or nothing is left to try.
    ///
    /// Refused credentials are read again once, in case they were replaced just now. Then those for which a token was
    /// granted last have their turn: a rotation may not have come to the server yet.
    async fn attempts(&self, cx: &FetchContext<'_>) -> Result<AccessToken, TokenError> {
        self.check()?;
        let transport = self.client.transport()?;
        let mut read_again = false;
        // Why the credentials of now are not used any more.
        let mut refused = None;
        loop {
            let kept = refused.is_some();
            let failed = match self.attempt(&transport, kept, cx).await {
                Ok(token) => return Ok(token),
                Err(failed) => failed,
            };
            if failed.error.kind() != TokenErrorKind::CredentialsRefused {
                return Err(failed.error);
            }
            if !read_again && self.auth.changed().await {
                read_again = true;
                refused = None;
            } else if failed.has_kept && refused.is_none() {
                self.tell_kept(failed.error.clone(), cx);
                refused = Some(failed.error);
            } else {
                // The refusal of the secret of now is what somebody can do something about.
                return Err(refused.unwrap_or(failed.error));
            }
        }
    }

    /// Kept credentials are used instead of those of now, because of `error`.
    pub(super) fn tell_kept(&self, error: TokenError, cx: &FetchContext<'_>) {
        let error = self.name(error);
        cx.emit(|credential| TokenEvent::KeptSecretUsed {
            credential,
            error: &error,
        });
    }
}
