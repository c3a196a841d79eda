//! A [`ClientAuthentication`] without its type.

use super::{client_authentication::ClientAuthentication, request::TokenRequest};
use crate::{
    boxed::BoxFuture,
    client_credentials::{CacheIdentity, TokenError},
};

pub(super) trait Erased: Send + Sync {
    fn authenticate_boxed<'a>(
        &'a self,
        request: &'a mut TokenRequest,
    ) -> BoxFuture<'a, Result<(), TokenError>>;

    fn changed_boxed(&self) -> BoxFuture<'_, bool>;

    fn methods_of(&self) -> &'static [&'static str];

    fn needs_audience_of(&self) -> bool;

    fn cache_identity_boxed(&self) -> BoxFuture<'_, Option<CacheIdentity>>;

    fn check_of(&self) -> Result<(), TokenError>;
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

    fn cache_identity_boxed(&self) -> BoxFuture<'_, Option<CacheIdentity>> {
        Box::pin(self.cache_identity())
    }

    fn check_of(&self) -> Result<(), TokenError> {
        self.check()
    }
}
