//! One call, and the parts of its request that limits depend on.

use std::num::NonZeroU64;

use super::deadline::Deadline;
use crate::{
    Attempts, Origin,
    attempts::Flags,
    rate_limit_retry::{
        budget::Account, decide::MethodClass, gate::Keys, quota::Load, route::RouteClass,
    },
};
use http::{HeaderMap, Method, Uri, request::Parts};

/// The state of one call over all its attempts.
///
/// Each request in flight has one, so that it is kept small: the destination is boxed, and the number of sends is a
/// `u16`.
///
/// | field | set by | changes |
/// |---|---|---|
/// | `keys` | `begin` | a held route and named quotas are appended |
/// | `account`, `origin`, `load.cost`, `method`, `nested` | `begin` | never |
/// | `deadline` | `begin` | gets its timer when the first attempt does not complete at once |
/// | `load.route`, `prefix` | `begin`; after the response on the fast path | never |
/// | `sequence` | each admission, and the response to a request on credit | cleared when a retry gives way to other requests |
/// | `attempt`, `sends`, `token_replaced`, `possibly_processed` | | after each attempt |
#[derive(Debug)]
pub(crate) struct Call {
    /// The partitions that count its requests.
    pub(crate) keys: Keys,
    /// The account of the retry budget to which a success is credited and retries are charged.
    pub(crate) account: Account,
    /// The request's destination, if the user chooses the partition keys; `None` otherwise.
    pub(super) origin: Option<Box<Origin>>,
    /// The cost that each attempt reserves, and the class of requests that is held while the server is unavailable for a
    /// part of its requests. The class is `None` until it is needed.
    pub(super) load: Load,
    /// Whether a second send of the request can do harm.
    pub(super) method: MethodClass,
    /// The class of the requests whose paths begin alike; `None` where that of `load` is.
    pub(super) prefix: Option<RouteClass>,
    /// Whether the request is a retry of a retry layer outside this one.
    pub(super) nested: bool,
    /// The time by which the call must end.
    pub(super) deadline: Deadline,
    /// The sequence number of an earlier admission, with which a retry keeps its position in the
    /// queues. `None` before the first admission, and for a retry that gives way to other requests.
    pub(super) sequence: Option<NonZeroU64>,
    /// The number of the current attempt; 1 for the first.
    pub(super) attempt: u32,
    /// Number of sends so far, including those of inner layers.
    pub(super) sends: u16,
    /// Whether an attempt was sent again after a 401 with another token, which happens at most once per call.
    pub(crate) token_replaced: bool,
    /// Whether an earlier attempt may have been processed.
    pub(super) possibly_processed: bool,
}

impl Call {
    /// Marks an attempt with its number, for inner layers. A first attempt stays unmarked.
    ///
    /// The flags are for retries only: an inner layer with credentials decides about its own replay, unless this one has
    /// seen one and retries.
    pub(crate) fn mark<B>(&self, request: &mut http::Request<B>) {
        let retry = self.attempt > 1;
        let flags = Flags {
            token_replaced: retry && self.token_replaced,
            retry,
        };
        Attempts::mark(request, self.sends.into(), flags);
    }
}

/// The head of a request, borrowed.
///
/// Limits depend on the head only. Borrowing it keeps the type of the request's body out of admission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHead<'a> {
    /// The method.
    pub(crate) method: &'a Method,
    /// The target.
    pub(crate) uri: &'a Uri,
    /// The header fields.
    pub(crate) headers: &'a HeaderMap,
    /// The extensions.
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
    /// Returns an owned copy, for the user's closure. HTTP version: the default, HTTP/1.1. Clones the header map and
    /// the extensions, which is why custom partitions cost more than the default.
    pub(crate) fn to_parts(self) -> Parts {
        // `Parts` has no public constructor.
        let mut request = http::Request::new(());
        request.method_mut().clone_from(self.method);
        request.uri_mut().clone_from(self.uri);
        request.headers_mut().clone_from(self.headers);
        request.extensions_mut().clone_from(self.extensions);
        request.into_parts().0
    }
}
