//! The number of times a request was sent before its response was returned.

use http::{Extensions, Request, Response};

/// The number of times a request was sent, stored in the extensions of its response.
///
/// The extension is set only if the request was sent more than once; [`Attempts::of`] returns 1 without it.
///
/// While a request is retried, the extension is also set on the request, so that inner layers know that it is a retry.
///
/// # Examples
///
/// ```
/// use http::Response;
/// use tower_m2m::Attempts;
///
/// assert_eq!(Attempts::of(&Response::new(())), 1);
/// ```
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Attempts(
    /// How many times the request was sent, or the number of this attempt. At least 2 when stored.
    u32,
    /// Whether one of the attempts was a replay with another token after a 401.
    bool,
);

impl Attempts {
    /// Returns how many times the request behind `response` was sent: 1 unless a layer of this crate sent it again.
    #[must_use]
    pub fn of<B>(response: &Response<B>) -> u32 {
        response.extensions().get::<Self>().map_or(1, |a| a.0)
    }

    /// Returns the number of the attempt that `request` is: 1 unless a layer of this crate sends it again.
    #[must_use]
    pub fn of_request<B>(request: &Request<B>) -> u32 {
        request.extensions().get::<Self>().map_or(1, |a| a.0)
    }

    /// Returns whether a request with these extensions is a repeated attempt of a layer of this crate.
    pub(crate) fn are_marked(extensions: &Extensions) -> bool {
        extensions.get::<Self>().is_some_and(|a| a.0 > 1)
    }

    /// Returns whether this call has already replayed a request with another token after a 401. A call does so at most
    /// once.
    ///
    /// In a request's extensions, this covers the attempts before it; in a response's, all attempts up to it.
    pub(crate) fn is_token_replaced(extensions: &Extensions) -> bool {
        extensions.get::<Self>().is_some_and(|a| a.1)
    }

    /// Marks `request` as attempt number `attempt`. The first attempt is not marked, so that it needs no extension.
    pub(crate) fn mark<B>(request: &mut Request<B>, attempt: u32, token_replaced: bool) {
        // Most requests are sent once: their extensions stay empty and are not allocated.
        if attempt > 1 {
            let attempts = Self(attempt, token_replaced);
            request.extensions_mut().insert(attempts);
        }
    }

    /// Stores in `response` that the request was sent `sends` times. Stores nothing if it was sent once.
    pub(crate) fn record<B>(response: &mut Response<B>, sends: u32, token_replaced: bool) {
        if sends > 1 {
            let attempts = Self(sends, token_replaced);
            response.extensions_mut().insert(attempts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_retried_requests_are_marked() {
        for (attempt, told) in [(1, 1), (2, 2), (7, 7)] {
            let mut request = Request::new(());
            Attempts::mark(&mut request, attempt, true);

            assert_eq!(Attempts::of_request(&request), told);
            assert_eq!(Attempts::are_marked(request.extensions()), told > 1);
            assert_eq!(Attempts::is_token_replaced(request.extensions()), told > 1);
            assert_eq!(request.extensions().is_empty(), told == 1);
        }
        let mut response = Response::new(());
        Attempts::record(&mut response, 1, true);
        assert!(response.extensions().is_empty());
    }
}
