//! How often a request was sent before its response came back.

use http::{Extensions, Request, Response};

/// The number of times a request was sent, in the extensions of its response.
///
/// Only put there when it is more than one, or when a layer waited; ask with [`Attempts::of`].
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
    u32,
    /// Whether one of them was a replay with another token after a 401.
    bool,
);

impl Attempts {
    /// How often the request behind `response` was sent: 1 unless a layer of this crate sent it again.
    #[must_use]
    pub fn of<B>(response: &Response<B>) -> u32 {
        response.extensions().get::<Self>().map_or(1, |a| a.0)
    }

    /// Which attempt `request` is: 1 unless a layer of this crate sends it again.
    #[must_use]
    pub fn of_request<B>(request: &Request<B>) -> u32 {
        request.extensions().get::<Self>().map_or(1, |a| a.0)
    }

    /// Whether a request with these extensions is not the first attempt of a layer of this crate.
    pub(crate) fn are_marked(extensions: &Extensions) -> bool {
        extensions.get::<Self>().is_some_and(|a| a.0 > 1)
    }

    /// Whether an attempt of this call was sent again after a 401: with these extensions of a request, before it; with
    /// those of a response, for it. That is done once per call.
    pub(crate) fn is_token_replaced(extensions: &Extensions) -> bool {
        extensions.get::<Self>().is_some_and(|a| a.1)
    }

    pub(crate) fn mark<B>(request: &mut Request<B>, attempt: u32, token_replaced: bool) {
        if attempt > 1 {
            let attempts = Self(attempt, token_replaced);
            request.extensions_mut().insert(attempts);
        }
    }

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
    fn only_what_is_sent_again_is_marked() {
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
