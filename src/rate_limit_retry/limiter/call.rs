//! One call, and what of its request is needed.

use std::num::NonZeroU64;

use http::{HeaderMap, Method, Uri, request::Parts};
use tokio::time::Instant;

use crate::{
    Attempts, Origin,
    rate_limit_retry::{budget::Account, decision::MethodClass, gate::Keys, route::RouteClass},
};

/// One call, over all its attempts.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) keys: Keys,
    /// Where its success is counted, and its retries are charged.
    pub(crate) account: Account,
    /// Where it goes, if the keys are the user's own.
    pub(super) origin: Option<Box<Origin>>,
    pub(super) method: MethodClass,
    /// What is held where the server is unavailable for a part of its requests; `None` until it is needed.
    pub(super) route: Option<RouteClass>,
    /// A layer outside has sent the request before.
    pub(super) nested: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) arrival: Option<NonZeroU64>,
    pub(super) attempt: u32,
    pub(super) sends: u16,
    /// An attempt was sent again after a 401, with another token: once per call.
    pub(crate) token_replaced: bool,
    /// An attempt that was followed by another one may have been processed.
    pub(super) perhaps_processed: bool,
}

impl Call {
    /// Tells those below that this is not the first attempt.
    pub(crate) fn mark<B>(&self, request: &mut http::Request<B>) {
        Attempts::mark(request, self.attempt, self.token_replaced);
    }
}

/// The head of a request, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) extensions: &'a http::Extensions,
}

impl<'a, B> From<&'a http::Request<B>> for RequestHead<'a> {
    fn from(request: &'a http::Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}

impl RequestHead<'_> {
    /// An owned copy, for the user's closure.
    pub(crate) fn to_parts(self) -> Parts {
        let mut request = http::Request::new(());
        request.method_mut().clone_from(self.method);
        request.uri_mut().clone_from(self.uri);
        request.headers_mut().clone_from(self.headers);
        request.extensions_mut().clone_from(self.extensions);
        request.into_parts().0
    }
}
