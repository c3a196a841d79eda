//! Settings of a layer that its token cache uses.

use std::{sync::Arc, time::Duration};

use super::TokenScope;

/// Settings of a layer. See the methods of [`ClientCredentialsLayerBuilder`](super::ClientCredentialsLayerBuilder).
///
/// A copy of what the builder holds; fixed for the lifetime of the layer. Settings of the source and of the store are
/// not part of it.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Name of the credential, for errors and events.
    pub(crate) credential: Option<Arc<str>>,
    /// How long before its expiry a token is refreshed.
    pub(crate) refresh_before: Duration,
    /// Time limit of one fetch.
    pub(crate) fetch_timeout: Duration,
    /// Upper bound on the `Retry-After` of a token endpoint.
    pub(crate) max_token_backoff: Duration,
    /// Minimum time between two refreshes that 401s of one origin cause.
    pub(crate) refresh_cooldown: Duration,
    /// Maximum number of callers that wait for a token.
    pub(crate) max_waiting: usize,
    /// Authentication scheme before the token; `None` sends the token alone.
    pub(crate) scheme: Option<Box<str>>,
}

impl Settings {
    /// Returns the settings for the tokens of `scope`, whose name follows that of the credential.
    pub(crate) fn scoped(&self, scope: &TokenScope) -> Self {
        let credential = match (&self.credential, scope.is_empty()) {
            (credential, true) => credential.clone(),
            (Some(name), false) => Some(format!("{name}/{}", scope.label()).into()),
            (None, false) => Some(scope.label().into()),
        };
        Self {
            credential,
            ..self.clone()
        }
    }
}
