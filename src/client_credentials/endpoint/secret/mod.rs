//! Sources of client secrets and of tokens that are sent. They are read for every attempt.
//!
//! `boxed` adds the fallback to a source, and `used` records which values a request has used. Only a token that is
//! issued makes a value the fallback.

mod boxed;
mod file;
mod used;
mod variable;

use std::future::Future;

#[cfg(feature = "https")]
pub(super) use self::boxed::Erased;
pub(super) use self::{boxed::BoxSecretSource, used::UsedSecrets};
pub use self::{file::SecretFile, variable::SecretVariable};
use crate::{
    client_credentials::{TokenError, trim::trimmed},
    secret::Secret,
};

/// A source of a client secret, or of a token that takes its place.
///
/// Implemented for `String`, `&'static str` and `Secret`, which never change; for [`SecretFile`] and
/// [`SecretVariable`]; and for closures that return a future.
///
/// The source is read once for every token request, and at most every 5 s while its secret is rejected. A layer with a
/// [`store`](super::super::ClientCredentialsLayerBuilder::store) reads it before and after the request as well.
///
/// Line breaks, blank lines, byte order marks and NUL characters at either end of a secret are removed, which
/// [`TokenEvent::ValueTrimmed`](super::super::TokenEvent::ValueTrimmed) reports. Spaces on the secret's own line are
/// kept. A secret that is then empty is a permanent error.
///
/// # Rotation
///
/// A secret may change at any time. The secret that last obtained a token is kept as a fallback. It is used if the
/// source fails or takes more than 5 s, or if the server rejects the current secret with `invalid_client`. So a
/// rotation may reach the server, the source and this process in any order.
/// [`TokenEvent::FallbackSecretUsed`](super::super::TokenEvent::FallbackSecretUsed) reports each use of the fallback.
/// The fallback is discarded 24 h after the source began to return a different secret or to fail.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, client_credentials::TokenError};
///
/// # async fn ask_the_vault() -> std::io::Result<String> { Ok("secret".into()) }
/// let auth = ClientAuth::basic("my-client", || async {
///     let secret = ask_the_vault().await;
///     let failed = |error| TokenError::transient("was not sent: no vault").with_source(error);
///     secret.map(Into::into).map_err(failed)
/// });
/// # drop(auth);
/// ```
pub trait SecretSource: Send + Sync + 'static {
    /// Returns the current secret.
    ///
    /// Return a transient error if the source may work again by itself, such as a vault that is sealed; the fetch then
    /// fails with a short back-off. A permanent one, such as a missing permission, has a back-off of minutes. Either is
    /// used only if there is no fallback.
    ///
    /// # Errors
    ///
    /// Any [`TokenError`]. Its text must not contain the secret.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the deadline of the attempt has passed, or after 5 s if there is a fallback.
    fn read(&self) -> impl Future<Output = Result<Secret, TokenError>> + Send;

    /// Returns the secret before trimming, so that trimming can be reported.
    #[doc(hidden)]
    fn read_untrimmed(&self) -> impl Future<Output = Result<Secret, TokenError>> + Send {
        self.read()
    }
}

/// Returns the secret trimmed at both ends. Returns `None` if trimming changes nothing.
///
/// `None` avoids a copy of the secret in the usual case.
pub(in crate::client_credentials) fn trim(secret: &Secret) -> Option<Secret> {
    let secret = secret.expose();
    let value = trimmed(secret);
    (value.len() < secret.len()).then(|| value.into())
}

impl SecretSource for Secret {
    async fn read(&self) -> Result<Self, TokenError> {
        Ok(self.clone())
    }
}

impl SecretSource for String {
    async fn read(&self) -> Result<Secret, TokenError> {
        Ok(self.as_str().into())
    }
}

impl SecretSource for &'static str {
    async fn read(&self) -> Result<Secret, TokenError> {
        Ok((*self).into())
    }
}

impl<F, R> SecretSource for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<Secret, TokenError>> + Send,
{
    async fn read(&self) -> Result<Secret, TokenError> {
        self().await
    }
}
