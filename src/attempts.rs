//! The number of times a request was sent before its response was returned.
//!
//! One type serves both directions:
//!
//! | stored in | by | means |
//! |---|---|---|
//! | a request's extensions | the layer that sends it again | the number of this attempt, for layers inside |
//! | a response's extensions | the layer that retried or replayed | how many times the request was sent, for the caller |
//!
//! The numbers of nested layers add up: each adds its own sends to the number that the request arrived with.
//!
//! | flag | set by | makes |
//! |---|---|---|
//! | token replaced | a replay; in a request, the limiter outside it | a call replay at most once, even if the layers are stacked separately |
//! | retry | the limiter | an inner limiter leave the retries to the outer one; a replay is no retry in this sense |

use http::{Extensions, Request, Response};

/// The number of times a request was sent, stored in the extensions of its response.
///
/// The extension is set only if the request was sent more than once; [`Attempts::of`] returns 1 without it.
///
/// A request that is sent again has the extension as well, for layers inside: [`Attempts::of_request`] returns the number
/// of the attempt. The layers count each other's attempts. If a layer inside fails with an error, which has no extensions,
/// its attempts count as one.
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
    /// What the attempts were.
    Flags,
);

/// What the attempts of a call were, for other layers of this crate.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Flags {
    /// Whether one of the attempts was a replay with another token after a 401.
    pub(crate) token_replaced: bool,
    /// Whether a layer with limits retries the request.
    pub(crate) retry: bool,
}

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
    /// For services and layers inside the layers of this crate, such as a tracing span for each attempt: OpenTelemetry's
    /// `http.request.resend_count` is this number minus 1. It counts retries, replays after a 401 and other proofs
    /// (RFC 9449), as well as the attempts of a token request.
    #[must_use]
    pub fn of_request<B>(request: &Request<B>) -> u32 {
        request.extensions().get::<Self>().map_or(1, |a| a.0)
    }

    /// Returns whether a request with these extensions is a retry of a layer with limits.
    pub(crate) fn is_retry(extensions: &Extensions) -> bool {
        extensions.get::<Self>().is_some_and(|a| a.1.retry)
    }

    /// Returns whether this call has already replayed a request with another token after a 401. A call does so at most
    /// once.
    ///
    /// In a request's extensions, this covers the attempts before it; in a response's, all attempts up to it.
    pub(crate) fn is_token_replaced(extensions: &Extensions) -> bool {
        extensions.get::<Self>().is_some_and(|a| a.1.token_replaced)
    }

    /// Marks `request` as the attempt after `earlier` ones of this layer. The first is not marked, so that it needs no
    /// extension.
    ///
    /// The number and the flags add to those of an outer layer.
    pub(crate) fn mark<B>(request: &mut Request<B>, earlier: u32, flags: Flags) {
        // Most requests are sent once: their extensions stay empty and are not allocated.
        if earlier > 0 {
            let outer = request.extensions().get::<Self>().copied();
            let Self(number, set) = outer.unwrap_or(Self(1, Flags::default()));
            let flags = Flags {
                token_replaced: set.token_replaced || flags.token_replaced,
                retry: set.retry || flags.retry,
            };
            let attempts = Self(number.saturating_add(earlier), flags);
            request.extensions_mut().insert(attempts);
        }
    }

    /// Stores in `response` that the request was sent `sends` times. Stores nothing if it was sent once.
    pub(crate) fn record<B>(response: &mut Response<B>, sends: u32, token_replaced: bool) {
        if sends > 1 {
            let flags = Flags {
                token_replaced,
                retry: false,
            };
            response.extensions_mut().insert(Self(sends, flags));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_that_are_sent_again_are_marked() {
        let retry = Flags {
            token_replaced: true,
            retry: true,
        };
        for earlier in [0, 1, 6] {
            let mut request = Request::new(());
            Attempts::mark(&mut request, earlier, retry);

            assert_eq!(Attempts::of_request(&request), 1 + earlier);
            assert_eq!(Attempts::is_retry(request.extensions()), earlier > 0);
            assert_eq!(
                Attempts::is_token_replaced(request.extensions()),
                earlier > 0
            );
            assert_eq!(request.extensions().is_empty(), earlier == 0);

            // An inner layer that replays it.
            Attempts::mark(&mut request, 1, Flags::default());
            assert_eq!(Attempts::of_request(&request), 2 + earlier);
            assert_eq!(Attempts::is_retry(request.extensions()), earlier > 0);
        }
        let mut response = Response::new(());
        Attempts::record(&mut response, 1, true);
        assert!(response.extensions().is_empty());
    }
}
