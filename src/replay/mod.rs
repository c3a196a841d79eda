//! Request bodies that can be sent again.
//!
//! ```text
//! Request<B> ─▶ RequestBodyReplay ─▶ Request<ReplayBody<B>> ─▶ layers that retry ─▶ your client
//! ```
//!
//! # What it promises
//!
//! - A copy yields the same bytes and trailers as the first, and announces the same length. If it cannot, it yields an
//!   error, never a truncated body that appears complete.
//! - Nothing is read ahead: the first copy streams as it did before, and its frames are buffered as they pass.
//! - A response may arrive before the upload has ended. If the request is sent again, the next copy takes over where the
//!   last one stopped. The last copy, which a connection may still hold, ends with an error immediately, so that a
//!   rejected attempt does not continue uploading while its request waits.
//! - A body that is too large to be buffered is sent once, as it would be without this module.
//!
//! # Where to place it
//!
//! Place [`RequestBodyReplayLayer`] outside the layers that retry. A body that is [`ReplayableBody`] itself does not
//! need it.
//!
//! # What it costs
//!
//! Three small allocations for each request, and one more for the first copy that a layer makes of it. Data is buffered
//! up to the cap, 64 KiB by default, while there is another copy that could be sent. Frames of 1 KiB and more are
//! reference-counted, not copied, if the body yields [`Bytes`]; consecutive smaller ones are copied into one buffer,
//! and a copy yields them as one frame. All bodies of a layer together buffer at most 64 MiB
//! ([`max_total_bytes`](RequestBodyReplayLayer::max_total_bytes)).
//!
//! # What can go wrong
//!
//! An upload that continues after the response has arrived can exceed the cap before another attempt is decided, while the
//! response is inspected or another token is fetched. The request is then not sent again, and the server's response is
//! returned.

mod body;
mod budget;
mod clone_with;
mod layer;
mod state;

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Empty, Full};
use pin_project_lite::pin_project;

pub(crate) use self::budget::ReplayEvents;
pub use self::{
    body::ReplayBody,
    budget::ReplayEvent,
    clone_with::CloneWith,
    layer::{RequestBodyReplay, RequestBodyReplayLayer},
};

/// Returns whether `error` is one that a [`ReplayBody`] yields in place of its body.
pub(crate) fn is_replay_error(error: &(dyn Error + 'static)) -> bool {
    error.is::<state::ReplayError>()
}

/// A request body that the layers that retry can copy.
///
/// It is not implemented for every [`Clone`] type: a clone may be shallow, so that both share one stream and the second is
/// sent empty. Implement it only for a body whose copies are independent of each other.
///
/// Make the copy before the body is polled; send the body first and its copy after it. If several copies are made of one
/// body, as by two layers that both retry, the copy made last is sent first.
///
/// It is implemented for `()`, `String`, [`Bytes`], [`Empty`], [`Full`], for [`Either`] of two such bodies, and for the
/// wrappers of this module: [`ReplayBody`], [`CloneWith`] and [`Once`]. With the feature `reqwest`, also for
/// `reqwest::Body`.
///
/// | method | called | by |
/// |---|---|---|
/// | [`try_clone`](Self::try_clone) | before each attempt that another one may follow | a layer that retries |
/// | [`is_intact`](Self::is_intact) | when the response has arrived | the same |
/// | [`supersede`](Self::supersede) | once a retry is decided | the same, at most once per attempt |
///
/// None of them may block. They run on the task of the call.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use tower_m2m::replay::ReplayableBody;
///
/// /// What this program sends.
/// enum Order {
///     Json(Bytes),
///     /// From a socket: it cannot be read again.
///     Stream(tokio::net::TcpStream),
/// }
///
/// impl ReplayableBody for Order {
///     fn try_clone(&self) -> Option<Self> {
///         match self {
///             Self::Json(bytes) => Some(Self::Json(bytes.clone())),
///             Self::Stream(_) => None,
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not known to be replayable",
    note = "wrap it in `ReplayBody` (with `RequestBodyReplayLayer`, replayed up to a size limit), `CloneWith` (if it \
            can copy itself) or `Once` (never replayed)"
)]
pub trait ReplayableBody: Sized {
    /// Returns a second copy of this body, equal to the first from its first byte on; `None` if it can be sent only once.
    fn try_clone(&self) -> Option<Self>;

    /// Returns whether a copy made earlier can still be sent in full. Called just before the copy is sent. Default: `true`.
    fn is_intact(&self) -> bool {
        true
    }

    /// Ends the reading of the copies that were sent before this one, and returns whether this one can be sent in full.
    ///
    /// Called once another attempt is decided: if it returns `false`, the server's response is returned instead. Its result
    /// must hold until this copy is polled. A body whose copies share nothing does not need to implement it.
    /// Default: [`is_intact`](Self::is_intact).
    fn supersede(&self) -> bool {
        self.is_intact()
    }
}

impl ReplayableBody for () {
    fn try_clone(&self) -> Option<Self> {
        Some(())
    }
}

impl ReplayableBody for String {
    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl ReplayableBody for Bytes {
    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl<D> ReplayableBody for Empty<D> {
    fn try_clone(&self) -> Option<Self> {
        Some(*self)
    }
}

impl<D: Buf + Clone> ReplayableBody for Full<D> {
    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl<L: ReplayableBody, R: ReplayableBody> ReplayableBody for Either<L, R> {
    fn try_clone(&self) -> Option<Self> {
        match self {
            Self::Left(left) => left.try_clone().map(Self::Left),
            Self::Right(right) => right.try_clone().map(Self::Right),
        }
    }

    fn is_intact(&self) -> bool {
        match self {
            Self::Left(left) => left.is_intact(),
            Self::Right(right) => right.is_intact(),
        }
    }

    fn supersede(&self) -> bool {
        match self {
            Self::Left(left) => left.supersede(),
            Self::Right(right) => right.supersede(),
        }
    }
}

pin_project! {
    /// A body that is sent once: it is never copied, so no layer sends it again.
    ///
    /// # Examples
    ///
    /// ```
    /// use http_body_util::Full;
    /// use tower_m2m::replay::{Once, ReplayableBody};
    ///
    /// let body = Once::new(Full::new(bytes::Bytes::from("payment")));
    /// assert!(body.try_clone().is_none());
    /// ```
    pub struct Once<B> {
        #[pin]
        body: B,
    }
}

impl<B> Once<B> {
    /// Wraps `body`.
    #[must_use]
    pub const fn new(body: B) -> Self {
        Self { body }
    }

    /// Returns the body.
    #[must_use]
    pub fn into_inner(self) -> B {
        self.body
    }
}

impl<B> ReplayableBody for Once<B> {
    fn try_clone(&self) -> Option<Self> {
        None
    }
}

impl<B: Body> Body for Once<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for Once<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn read<B: Body<Data = Bytes, Error: fmt::Debug>>(body: B) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_clone_has_the_same_content() {
        assert!(().try_clone().is_some());
        assert_eq!("data".to_owned().try_clone().unwrap(), "data");
        assert_eq!(Bytes::from("data").try_clone().unwrap(), "data");
        assert!(Empty::<Bytes>::new().try_clone().is_some());
        let full = Full::new(Bytes::from("data"));
        assert_eq!(read(full.try_clone().unwrap()).await, "data");
        let left: Either<_, Empty<Bytes>> = Either::Left(full.clone());
        assert_eq!(read(left.try_clone().unwrap()).await, "data");
        let right: Either<Empty<Bytes>, _> = Either::Right(full);
        assert_eq!(read(right.try_clone().unwrap()).await, "data");
    }

    /// Whether it is intact.
    struct Torn(bool);

    impl ReplayableBody for Torn {
        fn try_clone(&self) -> Option<Self> {
            None
        }

        fn is_intact(&self) -> bool {
            self.0
        }
    }

    #[test]
    fn either_delegates_is_intact() {
        for intact in [true, false] {
            assert_eq!(Either::<_, ()>::Left(Torn(intact)).is_intact(), intact);
            assert_eq!(Either::<(), _>::Right(Torn(intact)).is_intact(), intact);
        }
    }

    #[tokio::test]
    async fn once_delegates_to_a_body_that_is_never_cloned() {
        let body = Once::new(Full::new(Bytes::from("data")));
        assert!(!body.is_end_stream());
        assert!(Once::new(Empty::<Bytes>::new()).is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(4));
        assert!(body.try_clone().is_none());
        assert!(body.is_intact());
        assert_eq!(format!("{body:?}"), "Once { .. }");
        assert_eq!(read(body).await, "data");
    }

    #[tokio::test]
    async fn size_hint_decreases_while_a_copy_is_read() {
        let mut body = ReplayBody::new(Full::new(Bytes::from("data")), 10);
        let fresh = "ReplayBody { copy: 0, read: 0, max_body_bytes: 10, .. }";
        assert_eq!(format!("{body:?}"), fresh);

        body.frame().await.unwrap().unwrap();

        let read = "ReplayBody { copy: 0, read: 4, max_body_bytes: 10, .. }";
        assert_eq!(format!("{body:?}"), read);
    }
}
