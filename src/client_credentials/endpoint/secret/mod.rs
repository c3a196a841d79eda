//! Where client secrets and tokens to be shown are read from, for every attempt anew.

mod file;
mod shared;
mod used;
mod variable;

use std::future::Future;

#[cfg(feature = "https")]
pub(super) use self::shared::Erased;
pub use self::{file::SecretFile, variable::SecretVariable};
pub(super) use self::{shared::SharedSecret, used::UsedSecrets};
use crate::{
    client_credentials::{TokenError, trim::trimmed},
    secret::Secret,
};

/// Where a client secret comes from, or a token that takes its place.
///
/// Implemented for `String`, `&'static str` and `Secret`, which never change; for [`SecretFile`] and
/// [`SecretVariable`]; and for closures that return a future. It is read once for every token request, and at most every
/// 5 s while the secret that it gave is refused; a layer with a
/// [`store`](super::super::ClientCredentialsLayerBuilder::store) reads it before and after the request, too.
///
/// Where the endpoint uses a secret, it removes line breaks, blank lines, byte order marks and NUL characters at either
/// end, which [`TokenEvent::ValueTrimmed`](super::super::TokenEvent::ValueTrimmed) reports. Spaces on the secret's own
/// line are kept. A secret that is empty then is a permanent error.
///
/// A secret may change at any time. The one that a token was last granted for is kept: it is used instead if the source
/// fails (or takes more than 5 s), or if the server refuses what the source gives with `invalid_client`, so that a
/// rotation may come to the server, to the file and to this process in any order. It is forgotten 24 h after the source
/// began to give another, or none.
/// [`TokenEvent::KeptSecretUsed`](super::super::TokenEvent::KeptSecretUsed) tells both.
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
    /// The secret as it is now.
    ///
    /// # Errors
    ///
    /// A [`TokenError`]; its text must not hold the secret.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the fetch's deadline has passed.
    fn read(&self) -> impl Future<Output = Result<Secret, TokenError>> + Send;

    /// The secret with the marks that [`read`](Self::read) removes, so that they can be reported.
    #[doc(hidden)]
    fn read_untrimmed(&self) -> impl Future<Output = Result<Secret, TokenError>> + Send {
        self.read()
    }
}

/// The secret without line breaks and marks at its ends; `None` if there are none.
pub(in crate::client_credentials) fn trim(secret: &Secret) -> Option<Secret> {
    let secret = secret.expose();
    let kept = trimmed(secret);
    (kept.len() < secret.len()).then(|| kept.into())
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
