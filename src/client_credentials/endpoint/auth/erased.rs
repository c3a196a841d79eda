//! A [`ClientAuthentication`] without its type.

use std::{future::Future, pin::Pin};

use super::{ClientAuthentication, TokenRequest};
use crate::client_credentials::{CacheIdentity, TokenError};

pub(in super::super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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
