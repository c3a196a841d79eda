//! The requests that a scripted fault is for.

use http::Method;

/// The requests that a scripted fault is for: those with a method, with a path, and from the n-th on.
///
/// # Examples
///
/// ```
/// use http::{Method, StatusCode};
/// use tower_m2m::test_util::{Api, ApiFault, FaultTarget};
///
/// let api = Api::builder().in_process();
/// let upload = FaultTarget::any().method(Method::PUT).path("/files/*");
/// // The third upload is reset. Every search fails.
/// api.next_for(upload.nth(3), ApiFault::Reset);
/// let search = FaultTarget::any().path("/search");
/// api.always_for(search, Some(ApiFault::status(StatusCode::BAD_GATEWAY)));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "a target does nothing before it is passed with a fault"]
pub struct FaultTarget {
    /// Method of the requests; `None` for every method.
    method: Option<Method>,
    /// Path of the requests; `None` for every path.
    path: Option<String>,
    /// Number of the first request that is meant, from 1.
    nth: u64,
}

impl FaultTarget {
    /// Returns the target of all requests.
    pub const fn any() -> Self {
        Self {
            method: None,
            path: None,
            nth: 1,
        }
    }

    /// Restricts the target to requests with this method. Default: every method.
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Restricts the target to requests with this path, without the query. A path that ends in `*` matches all paths with
    /// that prefix. Default: every path.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Skips the first `n - 1` requests with this method and path, counted from the call that scripts the fault. Default: 1.
    pub const fn nth(mut self, n: u64) -> Self {
        self.nth = n;
        self
    }

    /// Returns whether a request has this method and path.
    pub(super) fn matches(&self, method: &Method, path: &str) -> bool {
        self.method.as_ref().is_none_or(|own| own == method)
            && self.path.as_deref().is_none_or(|own| fits(own, path))
    }

    /// Returns whether the target is restricted to a path.
    pub(super) const fn has_path(&self) -> bool {
        self.path.is_some()
    }

    /// Returns the number of the first request that is meant.
    pub(super) const fn first(&self) -> u64 {
        self.nth
    }
}

/// Returns whether `path` is `pattern`, or begins with what precedes the `*` at its end.
pub(super) fn fits(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    }
}
