//! The number of times a request was sent before its response was returned.
//!
//! One type serves both directions:
//!
//! | stored in | by | means |
//! |---|---|---|
//! | a request's extensions | the limiter, from the second attempt on | the number of this attempt, for layers inside |
//! | a response's extensions | the layer that retried or replayed | how many times the request was sent, for the caller |
//!
//! The flag beside the number makes a replay after a 401 happen once per call, even if the layers are stacked
//! separately: the outer one marks its retries, and the inner one does not replay a request whose token was already
//! replaced.

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
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{Request, Response, StatusCode, header};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_m2m::{Attempts, BoxError, RateLimitRetryLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), BoxError> {
    /// // Throttles the first attempt of each request.
    /// let api = service_fn(|request: Request<()>| {
    ///     let first = Attempts::of_request(&request) == 1;
    ///     async move {
    ///         let mut response = Response::new(String::new());
    ///         if first {
    ///             *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    ///             response.headers_mut().insert(header::RETRY_AFTER, 1.into());
    ///         }
    ///         Ok::<_, std::io::Error>(response)
    ///     }
    /// });
    /// let client = RateLimitRetryLayer::new().layer(api);
    /// let request = Request::get("https://api.example.com/").body(())?;
    ///
    /// let response = client.oneshot(request).await?;
    ///
    /// assert_eq!(response.status(), StatusCode::OK);
    /// assert_eq!(Attempts::of(&response), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn of<B>(response: &Response<B>) -> u32 {
        response.extensions().get::<Self>().map_or(1, |a| a.0)
    }

    /// Returns the number of the attempt that `request` is: 1 unless a layer of this crate sends it again.
    ///
    /// For services and layers inside a layer of this crate, such as a log that must not count a retry as another
    /// request.
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
    ///
    /// `token_replaced` says whether an earlier attempt of this call was a replay, which forbids another one. A call
    /// whose second attempt is a retry after a 429 is marked without it.
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
