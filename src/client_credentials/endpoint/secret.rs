//! Where a client secret is read from, for every attempt anew.

use std::future::Future;

use secrecy::SecretString;

use crate::client_credentials::TokenError;

/// Where a client secret comes from.
///
/// Implemented for `String`, `&'static str` and `SecretString`, which never change. Implement it to read a secret that
/// does: it is asked once for every token request, and at most every 5 s while the secret it gave is refused.
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
    fn read(&self) -> impl Future<Output = Result<SecretString, TokenError>> + Send;
}

impl SecretSource for SecretString {
    async fn read(&self) -> Result<Self, TokenError> {
        Ok(self.clone())
    }
}

impl SecretSource for String {
    async fn read(&self) -> Result<SecretString, TokenError> {
        Ok(self.as_str().into())
    }
}

impl SecretSource for &'static str {
    async fn read(&self) -> Result<SecretString, TokenError> {
        Ok((*self).into())
    }
}
