//! A source whose tokens are requested for other scopes than its own: those of a request, and those from challenges of
//! APIs.

use std::sync::Arc;

use super::{
    AccessToken, BoxTokenSource, CacheKey, FetchContext, RevokeContext, TokenError, TokenErrorKind,
    TokenScope, TokenSource, step_up::LearnedScopes,
};

/// A source, and what its tokens are requested for.
///
/// Clones of the source share its secrets, connections and discovered metadata.
#[derive(Debug)]
pub(crate) struct ScopedSource {
    /// The source.
    source: BoxTokenSource,
    /// The set of the request; empty for the source's own settings.
    scope: TokenScope,
    /// Scopes learned from challenges of APIs. `None` without step-up.
    learned: Option<Arc<LearnedScopes>>,
}

impl ScopedSource {
    /// Combines a source with what its tokens are requested for.
    pub(crate) fn new(
        source: BoxTokenSource,
        scope: TokenScope,
        learned: Option<Arc<LearnedScopes>>,
    ) -> Self {
        Self {
            source,
            scope,
            learned,
        }
    }

    /// Returns what the next token is requested for.
    fn current(&self) -> TokenScope {
        let scope = self.scope.clone();
        match &self.learned {
            Some(learned) => learned.widen(scope),
            None => scope,
        }
    }
}

impl TokenSource for ScopedSource {
    /// Fetches a token. If the authorization server rejects learned scopes, they are removed, and a token without them
    /// is fetched: otherwise a challenge with an unknown scope would make the credential unusable.
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        let scope = self.current();
        let fetched = self.source.fetch(cx.with_token_scope(&scope)).await;
        match (&fetched, &self.learned) {
            (Err(error), Some(learned))
                if error.kind() == TokenErrorKind::InvalidScope && learned.refuse() =>
            {
                self.source.fetch(cx.with_token_scope(&self.scope)).await
            }
            _ => fetched,
        }
    }

    async fn changed(&self) -> bool {
        self.source.changed().await
    }

    fn revoke<'a>(
        &'a self,
        token: &'a AccessToken,
        cx: RevokeContext<'a>,
    ) -> Option<impl Future<Output = Result<(), TokenError>> + Send + 'a> {
        self.source.revoke(token, cx)
    }

    fn revokes(&self) -> bool {
        self.source.revokes()
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        let key = self.source.cache_key().await?;
        let scope = self.current();
        Some(match scope.is_empty() {
            true => key,
            false => scope.add_to(key),
        })
    }

    fn bind_stored(&self, token: AccessToken) -> AccessToken {
        self.source.bind_stored(token)
    }

    async fn is_still_bound(&self, token: &AccessToken) -> bool {
        self.source.is_still_bound(token).await
    }
}
