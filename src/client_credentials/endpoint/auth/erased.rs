//! A type-erased [`ClientAuthentication`].
//!
//! `ClientAuth` holds a method as a trait object, so that the method's type does not appear in the endpoint's type.

use super::{client_authentication::ClientAuthentication, request::TokenRequest};
use crate::{
    boxed::BoxFuture,
    client_credentials::{CacheKey, TokenError},
};

/// The object-safe counterpart of [`ClientAuthentication`], implemented for every method. The futures are boxed.
pub(super) trait Erased: Send + Sync {
    /// Calls [`ClientAuthentication::authenticate`].
    fn authenticate_boxed<'a>(
        &'a self,
        request: &'a mut TokenRequest,
    ) -> BoxFuture<'a, Result<(), TokenError>>;

    /// Calls [`ClientAuthentication::changed`].
    fn changed_boxed(&self) -> BoxFuture<'_, bool>;

    /// Calls [`ClientAuthentication::methods`].
    fn methods_of(&self) -> &'static [&'static str];

    /// Calls [`ClientAuthentication::needs_audience`].
    fn needs_audience_of(&self) -> bool;

    /// Calls [`ClientAuthentication::cache_key`].
    fn cache_key_boxed(&self) -> BoxFuture<'_, Option<CacheKey>>;

    /// Calls [`ClientAuthentication::validate`].
    fn validate_of(&self) -> Result<(), TokenError>;
}

impl<T: ClientAuthentication> Erased for T {
    fn authenticate_boxed<'a>(
        &'a self,
        request: &'a mut TokenRequest,
    ) -> BoxFuture<'a, Result<(), TokenError>> {
        Box::pin(self.authenticate(request))
    }

    fn changed_boxed(&self) -> BoxFuture<'_, bool> {
        Box::pin(self.changed())
    }

    fn methods_of(&self) -> &'static [&'static str] {
        self.methods()
    }

    fn needs_audience_of(&self) -> bool {
        self.needs_audience()
    }

    fn cache_key_boxed(&self) -> BoxFuture<'_, Option<CacheKey>> {
        Box::pin(self.cache_key())
    }

    fn validate_of(&self) -> Result<(), TokenError> {
        self.validate()
    }
}
