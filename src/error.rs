//! Classification of errors: whether a failed request may have been processed, and what caused the error.
//!
//! Errors are recognized by their types, never by their texts, and no feature changes what is recognized: errors of
//! this crate, of hyper, h2 and hyper-util, and [`io::Error`]. The errors of clients built on hyper, such as reqwest
//! and tonic, have one of these among their sources.

use std::{error::Error, fmt, io, sync::Arc};

use crate::{
    client_credentials::{CredentialAlreadyPresent, OriginNotAllowed, TokenError},
    rate_limit_retry::{CostTooHigh, DeadlineExceeded, QueueFull, RateLimited},
    replay,
    tenants::TenantError,
};

/// Whether a request that failed with an error of the inner service may be sent again.
///
/// | class | retried | by default |
/// |---|---|---|
/// | `NotSent` | for every method | refused connections, unprocessed HTTP/2 streams |
/// | `MaybeProcessed` | for idempotent methods (RFC 9110 §9.2.2) | every other error of the inner service |
/// | `Final` | never | the errors of this crate |
///
/// The layers of this crate ask a classifier, which a setting of
/// [`RateLimitRetryLayer`](crate::rate_limit_retry::RateLimitRetryLayerBuilder::classify_errors) replaces. A classifier
/// that returns `NotSent` for an error after which the request may have been processed makes a layer send a `POST`
/// twice.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ErrorClass, client_credentials::TokenError};
///
/// // There is a layer for that already.
/// assert_eq!(ErrorClass::of(&TokenError::transient("failed")), ErrorClass::Final);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// No server has processed the request. It may be sent again, whatever its method.
    NotSent,
    /// The server may have processed the request. Only idempotent requests may be sent again.
    MaybeProcessed,
    /// Another attempt cannot help, or is not for this layer to make: a missing token, for example.
    Final,
}

impl ErrorClass {
    /// Returns the class of `error`, from the types in its chain of sources: errors of this crate are `Final`, and
    /// unknown errors are `MaybeProcessed`.
    ///
    /// `NotSent` are refused connections, and the errors by which hyper and the clients based on it (hyper-util, reqwest,
    /// tonic) report that a request was not processed: errors in connecting; requests canceled before they were written;
    /// HTTP/2 streams that the server refused (RFC 9113 §8.7), or that come after the last stream that the server
    /// processes before it closes the connection (§6.8).
    ///
    /// The error of a [`ReplayBody`](crate::replay::ReplayBody) is `Final`, too: either a later attempt has taken over
    /// the body, and another attempt would take it away again, or the body is gone. It is not `NotSent`, because a part
    /// of the request may have been sent.
    ///
    /// The chain of sources is followed to its end, also through an [`io::Error`] that wraps another error.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    ///
    /// use tower_m2m::ErrorClass;
    ///
    /// let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    /// let reset = io::Error::from(io::ErrorKind::ConnectionReset);
    ///
    /// assert_eq!(ErrorClass::of(&refused), ErrorClass::NotSent);
    /// // The connection existed: the server may have read the request.
    /// assert_eq!(ErrorClass::of(&reset), ErrorClass::MaybeProcessed);
    /// ```
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut class = None;
        for link in links(error) {
            if is_own_error(link) {
                return Self::Final;
            }
            // The outermost error that is known says most about the request.
            class = class.or_else(|| class_of_link(link));
        }
        class.unwrap_or(Self::MaybeProcessed)
    }
}

/// Returns `error` and its sources, outermost first, at most eight of them.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    links(error).take(8)
}

/// Returns `error` and all of its sources, outermost first.
///
/// Enters an `io::Error` that wraps another error.
///
/// An error may contain itself only by mistake, and such a chain would not end; no error type of std, hyper or this
/// crate does.
fn links<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    // Lazy, so that a search stops at the first match.
    std::iter::successors(Some(error), |link: &&'a (dyn Error + 'static)| {
        let link = *link;
        // `io::Error::source` skips the error that it wraps.
        let inside = link
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inside| inside as &(dyn Error + 'static));
        inside.or_else(|| link.source())
    })
}

/// Returns the causes of `error` for a log line: the texts of its sources, without those that the text before contains.
/// Returns `None` if there are none.
#[cfg(any(feature = "tracing", test))]
pub(crate) fn causes(error: &(dyn Error + 'static)) -> Option<String> {
    let mut causes: Option<String> = None;
    // Many errors repeat the text of their source: each text is compared with the one before it.
    let mut before = error.to_string();
    for link in chain(error).skip(1) {
        let text: String = link.to_string().chars().take(MAX_CAUSE_CHARS).collect();
        // Bounded, because the text may contain what a server sent.
        if !text.is_empty() && !before.contains(&text) {
            match &mut causes {
                Some(causes) => {
                    causes.push_str(": ");
                    causes.push_str(&text);
                }
                None => causes = Some(text.clone()),
            }
            before = text;
        }
    }
    causes
}

/// Maximum length, in characters, of the text of one cause in a log line.
#[cfg(any(feature = "tracing", test))]
const MAX_CAUSE_CHARS: usize = 300;

/// Returns whether the server rejected a request because of overload: `ENHANCE_YOUR_CALM` (RFC 9113 §7), for its stream
/// or for the connection.
pub(crate) fn is_shed(error: &(dyn Error + 'static)) -> bool {
    // An error of the request's own body, and what caused it, is not the server's.
    let mut sent = links(error).take_while(|link| !is_of_body(*link));
    let stream = sent.find_map(|link| link.downcast_ref::<h2::Error>());
    stream.is_some_and(|error| {
        error.is_remote() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
    })
}

/// Returns the class that this link of the chain implies by its own type; `None` if it implies none.
fn class_of_link(error: &(dyn Error + 'static)) -> Option<ErrorClass> {
    // Its sources describe where the body comes from, not the server.
    if is_of_body(error) {
        return Some(ErrorClass::MaybeProcessed);
    }
    if is_unsent_by_hyper(error) || is_unprocessed_stream(error) {
        return Some(ErrorClass::NotSent);
    }
    is_connect(error).then_some(ErrorClass::NotSent)
}

/// Returns whether the request's own body failed.
fn is_of_body(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<hyper::Error>()
        .is_some_and(hyper::Error::is_user)
}

/// Returns whether hyper did not write the request. hyper cancels and returns a request that it has not begun to write;
/// or the connection was closed before there was anything to write.
fn is_unsent_by_hyper(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<hyper::Error>()
        .is_some_and(|error| error.is_canceled() || error.is_closed())
}

/// Returns whether the server did not process the HTTP/2 stream: it sent `RST_STREAM` with `REFUSED_STREAM`, or `GOAWAY`.
/// h2 reports a `GOAWAY` only to streams after the last one that it names, and to requests without a stream.
fn is_unprocessed_stream(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<h2::Error>().is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (refused || error.is_go_away())
    })
}

/// Returns whether the error is one of this crate's.
fn is_own_error(error: &(dyn Error + 'static)) -> bool {
    error.is::<TokenError>()
        || error.is::<OriginNotAllowed>()
        || error.is::<CredentialAlreadyPresent>()
        || error.is::<RateLimited>()
        || error.is::<QueueFull>()
        || error.is::<CostTooHigh>()
        || error.is::<DeadlineExceeded>()
        || error.is::<TenantError>()
        || replay::is_replay_error(error)
}

/// Returns whether an error that is [`ErrorClass::Final`] is one of this crate's and means that the request was not sent.
///
/// The limiter then releases the permit as unused: no server has counted the request.
pub(crate) fn is_unsent(error: &(dyn Error + 'static)) -> bool {
    for link in links(error) {
        // Its class depends on what happened before the deadline, so it is checked before the others.
        if let Some(exceeded) = link.downcast_ref::<DeadlineExceeded>() {
            return !exceeded.possibly_processed();
        }
        if is_own_error(link) {
            return !replay::is_replay_error(link);
        }
    }
    false
}

/// Returns whether the error means that no connection was established.
fn is_connect(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
        return error.is_connect();
    }
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The error classifier of one layer.
///
/// The closure is the user's code. It is called without a lock, on the task of the call, once for each failed attempt.
#[derive(Clone)]
pub(crate) struct Classifier(Arc<dyn Fn(&(dyn Error + 'static)) -> ErrorClass + Send + Sync>);

impl Classifier {
    /// Wraps the user's closure.
    pub(crate) fn new(
        classify: impl Fn(&(dyn Error + 'static)) -> ErrorClass + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(classify))
    }

    /// Classifies `error`. Errors of this crate are `Final`; the user's closure is called for all others.
    pub(crate) fn classify(&self, error: &(dyn Error + 'static)) -> ErrorClass {
        match ErrorClass::of(error) {
            // A closure cannot make a layer retry an error that a layer of this crate has already decided on.
            ErrorClass::Final => ErrorClass::Final,
            ErrorClass::MaybeProcessed | ErrorClass::NotSent => (self.0)(error),
        }
    }
}

impl Default for Classifier {
    fn default() -> Self {
        Self::new(ErrorClass::of)
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Classifier")
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;
    use http_body::Body;
    use http_body_util::Full;

    use super::*;
    use crate::{
        BoxError,
        replay::{ReplayBody, ReplayableBody},
        tenants::CredentialId,
    };

    /// What an HTTP client makes of an error of the request's body.
    #[derive(Debug)]
    struct Client(BoxError);

    impl fmt::Display for Client {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("error from user's body")
        }
    }

    impl Error for Client {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[test]
    fn an_error_of_a_superseded_body_is_final() {
        let mut first = ReplayBody::new(Full::new(Bytes::from("hello")), 10);
        let mut second = first.try_clone().unwrap();
        let poll = |body: &mut ReplayBody<Full<Bytes>>| {
            let mut cx = Context::from_waker(Waker::noop());
            std::pin::Pin::new(body).poll_frame(&mut cx)
        };
        assert!(matches!(poll(&mut second), Poll::Ready(Some(Ok(_)))));

        let Poll::Ready(Some(Err(superseded))) = poll(&mut first) else {
            panic!("the first copy was not superseded");
        };

        assert_eq!(ErrorClass::of(&Client(superseded)), ErrorClass::Final);
    }

    #[test]
    fn each_cause_of_an_error_is_listed_once() {
        let lookup = io::Error::other("no such host");
        let error = Client(Box::new(Client(lookup.into())));

        assert_eq!(causes(&error).as_deref(), Some("no such host"));
        assert_eq!(causes(&io::Error::other("alone")), None);
    }

    #[test]
    fn a_request_without_a_tenants_credential_was_not_sent_and_is_not_retried() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let id = CredentialId::new("acme");
        for error in [
            TenantError::MissingId,
            TenantError::Unknown(id.clone()),
            TenantError::AtCapacity(id.clone()),
            // Building the layer failed because its own connection was refused.
            TenantError::LayerFailed(id, Arc::new(refused)),
        ] {
            let nested = io::Error::other(Client(error.clone().into()));
            for error in [
                BoxError::from(error.clone()),
                Client(error.into()).into(),
                nested.into(),
            ] {
                assert_eq!(ErrorClass::of(&*error), ErrorClass::Final, "{error:?}");
                assert!(is_unsent(&*error), "{error:?}");
                let custom = Classifier::new(|_| ErrorClass::NotSent);
                assert_eq!(custom.classify(&*error), ErrorClass::Final, "{error:?}");
            }
        }
    }

    #[tokio::test]
    async fn requests_canceled_by_hyper_were_not_sent() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let io = hyper_util::rt::TokioIo::new(ours);
        let handshake = hyper::client::conn::http1::handshake::<_, Full<Bytes>>(io);
        let (mut sender, connection) = handshake.await.unwrap();
        let closed = sender.send_request(http::Request::default());
        drop(connection);

        let error = closed.await.unwrap_err();

        assert!(error.is_canceled(), "{error:?}");
        let client = Client(error.into());
        assert_eq!(ErrorClass::of(&client), ErrorClass::NotSent);
    }

    #[test]
    fn a_refused_connection_is_not_sent_and_unknown_errors_may_be_processed() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);

        assert_eq!(ErrorClass::of(&Client(refused.into())), ErrorClass::NotSent);
        assert_eq!(
            ErrorClass::of(&Client(reset.into())),
            ErrorClass::MaybeProcessed
        );
    }
}
