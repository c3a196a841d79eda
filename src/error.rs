//! Whether a request that ended in an error may have been processed.

use std::{error::Error, fmt, io, sync::Arc};

use crate::{
    client_credentials::{CredentialPresent, OriginNotAllowed, TokenError},
    rate_limit_retry::{DeadlineExceeded, HoldTooLong, TooManyWaiting},
    replay,
    tenants::TenantError,
};

/// What an error of the inner service means for another attempt.
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
    /// Nobody outside has seen the request: it may be sent again, whatever its method.
    NotSent,
    /// The server may have processed it: only idempotent requests may be sent again.
    MaybeProcessed,
    /// Another attempt cannot help, or is not ours to make: a missing token, for example.
    Final,
}

impl ErrorClass {
    /// The class of `error`, from the types in its chain of sources that this crate knows: its own errors are `Final`,
    /// anything that is not known is `MaybeProcessed`.
    ///
    /// `NotSent` are refused connections, and with the features `hyper-util` or `reqwest` what those clients, and others
    /// that are made of hyper, know not to have been processed: errors in connecting; requests that were canceled before
    /// they were written; HTTP/2 streams that the server has refused (RFC 9113 §8.7), or that come after the last one that it
    /// has processed before it closes the connection (§6.8).
    ///
    /// The error of a [`ReplayBody`](crate::replay::ReplayBody) is `Final`, too: either a later attempt has taken over
    /// the body, which another one would take away from it, or the body is gone. A part of the request may have been
    /// sent, so it is not `NotSent`.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut class = None;
        for link in links(error) {
            if is_ours(link) {
                return Self::Final;
            }
            // What comes first says most about the request.
            class = class.or_else(|| class_of_link(link));
        }
        class.unwrap_or(Self::MaybeProcessed)
    }
}

/// `error` and what it was caused by, outermost first, at most eight of them.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    links(error).take(8)
}

/// The same, all of them.
fn links<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |link: &&'a (dyn Error + 'static)| {
        let link = *link;
        // `io::Error::source` skips the error inside.
        let inside = link
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inside| inside as &(dyn Error + 'static));
        inside.or_else(|| link.source())
    })
}

/// What caused `error`, for a log: the texts of its sources, without those that the text before holds. `None` without
/// any.
#[cfg(any(feature = "tracing", test))]
pub(crate) fn causes(error: &(dyn Error + 'static)) -> Option<String> {
    let mut causes: Option<String> = None;
    let mut before = error.to_string();
    for link in chain(error).skip(1) {
        let text: String = link.to_string().chars().take(LONGEST_CAUSE).collect();
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

#[cfg(any(feature = "tracing", test))]
const LONGEST_CAUSE: usize = 300;

/// Whether the server has refused a request because it gets more than it takes: `ENHANCE_YOUR_CALM` (RFC 9113 §7), for its
/// stream or for the connection.
#[cfg(any(feature = "hyper-util", feature = "reqwest"))]
pub(crate) fn is_shed(error: &(dyn Error + 'static)) -> bool {
    let mut sent = links(error).take_while(|link| !is_of_body(*link));
    let stream = sent.find_map(|link| link.downcast_ref::<h2::Error>());
    stream.is_some_and(|error| {
        error.is_remote() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
    })
}

/// The same without a type by which it could be known.
#[cfg(not(any(feature = "hyper-util", feature = "reqwest")))]
pub(crate) fn is_shed(_: &(dyn Error + 'static)) -> bool {
    false
}

/// What a link of the chain says by its own type; `None` if that is nothing.
fn class_of_link(error: &(dyn Error + 'static)) -> Option<ErrorClass> {
    #[cfg(any(feature = "hyper-util", feature = "reqwest"))]
    {
        // Its causes are about where the body comes from, and not about the server.
        if is_of_body(error) {
            return Some(ErrorClass::MaybeProcessed);
        }
        if is_unsent_by_hyper(error) || is_unprocessed_stream(error) {
            return Some(ErrorClass::NotSent);
        }
    }
    is_connect(error).then_some(ErrorClass::NotSent)
}

/// Whether it is the request's own body that has failed.
#[cfg(any(feature = "hyper-util", feature = "reqwest"))]
fn is_of_body(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<hyper::Error>()
        .is_some_and(hyper::Error::is_user)
}

/// hyper cancels what it has not begun to write, and gives it back; or the connection has ended before there was anything
/// to write.
#[cfg(any(feature = "hyper-util", feature = "reqwest"))]
fn is_unsent_by_hyper(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<hyper::Error>()
        .is_some_and(|error| error.is_canceled() || error.is_closed())
}

/// The server's `RST_STREAM` with `REFUSED_STREAM`, or its `GOAWAY`, which h2 passes on to those streams only that are
/// beyond the last one named there, and to requests that had no stream yet.
#[cfg(any(feature = "hyper-util", feature = "reqwest"))]
fn is_unprocessed_stream(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<h2::Error>().is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (refused || error.is_go_away())
    })
}

fn is_ours(error: &(dyn Error + 'static)) -> bool {
    error.is::<TokenError>()
        || error.is::<OriginNotAllowed>()
        || error.is::<CredentialPresent>()
        || error.is::<HoldTooLong>()
        || error.is::<TooManyWaiting>()
        || error.is::<DeadlineExceeded>()
        || error.is::<TenantError>()
        || replay::is_refusal(error)
}

/// Whether an error that is [`ErrorClass::Final`] is one of ours and says that the request was not sent.
pub(crate) fn is_unsent(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(link) = next {
        if let Some(exceeded) = link.downcast_ref::<DeadlineExceeded>() {
            return !exceeded.possibly_processed();
        }
        if is_ours(link) {
            return !replay::is_refusal(link);
        }
        next = link.source();
    }
    false
}

fn is_connect(error: &(dyn Error + 'static)) -> bool {
    #[cfg(feature = "hyper-util")]
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
        return error.is_connect();
    }
    #[cfg(feature = "reqwest")]
    if let Some(error) = error.downcast_ref::<reqwest::Error>() {
        return error.is_connect();
    }
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The classifier of one layer.
#[derive(Clone)]
pub(crate) struct Classifier(Arc<dyn Fn(&(dyn Error + 'static)) -> ErrorClass + Send + Sync>);

impl Classifier {
    pub(crate) fn new(
        classify: impl Fn(&(dyn Error + 'static)) -> ErrorClass + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(classify))
    }

    /// Our own errors are final whatever the user's closure would say.
    pub(crate) fn classify(&self, error: &(dyn Error + 'static)) -> ErrorClass {
        match ErrorClass::of(error) {
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
    fn a_body_that_a_later_attempt_has_taken_over_is_no_reason_for_another_attempt() {
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
    fn the_causes_of_an_error_are_told_once_each() {
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
            TenantError::NotChosen,
            TenantError::Unknown(id.clone()),
            TenantError::Full(id.clone()),
            // The layer could not be made because its own connection was refused.
            TenantError::Unusable(id, Arc::new(refused)),
        ] {
            for error in [BoxError::from(error.clone()), Client(error.into()).into()] {
                assert_eq!(ErrorClass::of(&*error), ErrorClass::Final, "{error:?}");
                assert!(is_unsent(&*error), "{error:?}");
                let custom = Classifier::new(|_| ErrorClass::NotSent);
                assert_eq!(custom.classify(&*error), ErrorClass::Final, "{error:?}");
            }
        }
    }

    #[cfg(feature = "hyper-util")]
    #[tokio::test]
    async fn what_hyper_has_canceled_was_not_sent() {
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
    fn a_refused_connection_was_not_sent_and_anything_unknown_may_have_been() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);

        assert_eq!(ErrorClass::of(&Client(refused.into())), ErrorClass::NotSent);
        assert_eq!(
            ErrorClass::of(&Client(reset.into())),
            ErrorClass::MaybeProcessed
        );
    }
}
