//! Error responses after which no wait helps.
//!
//! Some vendors answer 429 for conditions that do not end with a window, such as an exhausted plan. Without further
//! information the layer would hold the partition and retry. The user's predicate identifies such responses.
//!
//! The predicate is called once per error response, after the response has arrived and before anything is recorded. It
//! runs without any lock. A permanent error counts as a request that was sent, and changes no hold and no estimate.

use std::{fmt, sync::Arc};

use http::{Extensions, HeaderMap, Response, StatusCode};

use super::BodyPrefix;

/// An error response, as passed to [`is_permanent`](super::RateLimitRetryLayerBuilder::is_permanent).
///
/// Contains what is available without waiting: status, headers, extensions, and the beginning of the body if a
/// [`PeekBodyLayer`](super::PeekBodyLayer) has read it.
///
/// # Examples
///
/// An error code in a JSON body:
///
/// ```
/// use tower_m2m::rate_limit_retry::ErrorResponse;
///
/// fn is_permanent(error: &ErrorResponse<'_>) -> bool {
///     let code = b"\"insufficient_quota\"";
///     error.body().windows(code.len()).any(|part| part == code)
/// }
/// # let _: fn(&ErrorResponse<'_>) -> bool = is_permanent;
/// ```
///
/// A header field:
///
/// ```
/// use http::StatusCode;
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::ErrorResponse};
///
/// /// Whether the plan is exhausted for this month.
/// fn is_permanent(error: &ErrorResponse<'_>) -> bool {
///     error.status() == StatusCode::TOO_MANY_REQUESTS
///         && error.headers().contains_key("x-plan-exceeded")
/// }
///
/// let layer = RateLimitRetryLayer::builder().is_permanent(is_permanent).build();
/// # drop(layer);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ErrorResponse<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> ErrorResponse<'a> {
    /// Borrows the head of `response`.
    pub(super) fn of<B>(response: &'a Response<B>) -> Self {
        Self {
            status: response.status(),
            headers: response.headers(),
            extensions: response.extensions(),
        }
    }

    /// Returns the status: 4xx or 5xx.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the response headers.
    #[must_use]
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// Returns the response extensions, which contain what inner layers have added.
    #[must_use]
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }

    /// Returns the beginning of the body; empty without a [`PeekBodyLayer`](super::PeekBodyLayer) below this layer.
    ///
    /// It may end in the middle of a value or of a character: search for a part instead of parsing it. Compressed
    /// bodies are not decompressed.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        let start = self.extensions.get::<BodyPrefix>();
        start.map_or(&[], BodyPrefix::as_bytes)
    }
}

/// The user's predicate for permanent errors. Default: no error is permanent.
#[derive(Clone, Default)]
pub(crate) struct PermanentErrors(Option<Arc<dyn Fn(&ErrorResponse<'_>) -> bool + Send + Sync>>);

impl PermanentErrors {
    /// Wraps the user's predicate.
    pub(super) fn new(is: impl Fn(&ErrorResponse<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(is)))
    }

    /// Returns whether the response is permanent. The predicate is called for 4xx and 5xx only.
    pub(super) fn matches(&self, refusal: &ErrorResponse<'_>) -> bool {
        let status = refusal.status();
        let error = status.is_client_error() || status.is_server_error();
        error && self.0.as_ref().is_some_and(|is| is(refusal))
    }
}

impl fmt::Debug for PermanentErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PermanentErrors")
    }
}
