//! A body that remembers what was read from it, up to a cap.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::{
    ReplayableBody,
    memory::{Memory, Share},
    state::{Next, Piece, Refused, State},
};
use crate::{
    BoxError,
    sync::{Mutex, lock},
};

/// A body of which copies can be made, as long as no more than a cap has to be remembered.
///
/// Frames are remembered while the first copy is read, and only if another copy exists by then. A copy first yields what
/// is remembered and then reads on where the last one had got to. Only one copy is read at a time: when a later one is
/// polled, the one before it yields an error if it is polled again.
///
/// Beyond the cap what was remembered is freed, the copy that is being read streams on, and all others are no longer
/// [intact](ReplayableBody::is_intact). The cap counts bytes of data. If the body says from the start that it is larger,
/// [`try_clone`](ReplayableBody::try_clone) is `None`; so it is once something was read that is not remembered.
///
/// # Errors
///
/// The body's own error goes to the copy that was being read; then no copy is intact. A copy that is polled although it
/// is not intact or a later one has taken over yields an error, each time.
///
/// # Examples
///
/// ```
/// use http_body_util::{BodyExt, Full};
/// use tower_m2m::replay::{ReplayBody, ReplayableBody};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_m2m::BoxError> {
/// let first = ReplayBody::new(Full::<&[u8]>::from(&b"data"[..]), 1024);
/// let second = first.try_clone().ok_or("larger than the cap")?;
///
/// assert_eq!(first.collect().await?.to_bytes(), "data");
/// assert_eq!(second.collect().await?.to_bytes(), "data");
/// # Ok(())
/// # }
/// ```
pub struct ReplayBody<B> {
    shared: Arc<Shared<B>>,
    copy: u64,
    /// How many remembered pieces this copy has yielded.
    position: usize,
    /// How many bytes this copy has yielded.
    read: u64,
    started: bool,
}

/// The locks are taken in the order of the fields, so that no copy can take over while another polls the body. `body`
/// belongs to the copy that is being read: it is polled under its lock, which nothing but polling takes.
struct Shared<B> {
    /// `None` once the body has ended, failed or panicked, so that it is freed and not polled again.
    body: Mutex<Option<Pin<Box<B>>>>,
    state: Mutex<State>,
    memory: Option<Arc<Memory>>,
    cap: usize,
    /// The body says from the start that it is larger than the cap.
    too_large: bool,
    /// What the body said of itself before anything was read.
    size_hint: SizeHint,
    is_end_stream: bool,
}

impl<B: Body> ReplayBody<B> {
    /// Wraps `body`; at most `cap` bytes of its data are remembered.
    #[must_use]
    pub fn new(body: B, cap: usize) -> Self {
        Self::within(body, cap, None)
    }

    /// The same, and no more than is left to all bodies that remember in `memory`.
    pub(super) fn within(body: B, cap: usize, memory: Option<&Arc<Memory>>) -> Self {
        let size_hint = body.size_hint();
        let is_end_stream = body.is_end_stream();
        let shared = Shared {
            body: Mutex::new(Some(Box::pin(body))),
            state: Mutex::new(State::new(is_end_stream, memory.cloned().map(Share::new))),
            memory: memory.cloned(),
            cap,
            too_large: usize::try_from(size_hint.lower()).map_or(true, |lower| lower > cap),
            size_hint,
            is_end_stream,
        };
        Self::of(Arc::new(shared), 0)
    }
}

impl<B> ReplayBody<B> {
    fn of(shared: Arc<Shared<B>>, copy: u64) -> Self {
        Self {
            shared,
            copy,
            position: 0,
            read: 0,
            started: false,
        }
    }
}

impl<B> ReplayableBody for ReplayBody<B> {
    fn try_clone(&self) -> Option<Self> {
        if self.shared.too_large {
            return None;
        }
        let copy = lock(&self.shared.state).add(self.copy)?;
        Some(Self::of(Arc::clone(&self.shared), copy))
    }

    fn is_intact(&self) -> bool {
        lock(&self.shared.state).is_intact(self.copy)
    }

    /// The former reader is woken, so that its attempt ends now: it gets an error when it is polled again.
    fn supersede(&self) -> bool {
        let mut after = AfterLocks::default();
        let Shared { body, state, .. } = &*self.shared;
        // Not in the middle of a poll, whose frame would be neither here nor there.
        let _body = lock(body);
        match lock(state).supersede(self.copy) {
            Ok(former) => {
                after.wake = former;
                true
            }
            Err(_) => false,
        }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        // Before the locks, so that it is dropped after them.
        let mut after = AfterLocks::default();
        let polled = this.poll_turn(cx, &mut after);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len);
            this.read = this.read.saturating_add(length as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        if self.started {
            lock(&self.shared.state).is_end(self.copy, self.position)
        } else {
            self.shared.is_end_stream
        }
    }

    fn size_hint(&self) -> SizeHint {
        let whole = &self.shared.size_hint;
        let mut rest = SizeHint::new();
        rest.set_lower(whole.lower().saturating_sub(self.read));
        if let Some(upper) = whole.upper() {
            rest.set_upper(upper.saturating_sub(self.read));
        }
        rest
    }
}

impl<B> ReplayBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        after: &mut AfterLocks,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.started = true;
        let Shared { body, state, .. } = &*self.shared;
        let mut body = lock(body);

        let next = {
            let mut state = lock(state);
            match state.claim(self.copy) {
                Ok(former) => after.wake = former,
                Err(refused) => return Poll::Ready(Some(Err(refused.into()))),
            }
            state.next(self.position)
        };
        match next {
            Next::Replay(frame) => {
                self.position += 1;
                return Poll::Ready(Some(Ok(frame)));
            }
            Next::End => return Poll::Ready(None),
            Next::Read => {}
        }

        // Taken out, so that a body that panics is gone.
        let Some(mut original) = body.take() else {
            after.freed = lock(state).fail();
            return Poll::Ready(Some(Err(Refused::Incomplete.into())));
        };
        match original.as_mut().poll_frame(cx) {
            Poll::Pending => {
                *body = Some(original);
                if !lock(state).would_wake(cx.waker()) {
                    let waker = cx.waker().clone();
                    after.drop = lock(state).wait(waker);
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                lock(state).end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                after.freed = lock(state).fail();
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
                let at_end = original.is_end_stream();
                *body = Some(original);
                let recorded = lock(state).record(&frame, self.shared.cap, at_end);
                self.position = recorded.position;
                after.freed = recorded.freed;
                after.tell = self.shared.memory.clone().filter(|_| recorded.over_budget);
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl<B> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        let waker = lock(&self.shared.state).remove(self.copy);
        drop(waker);
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody")
            .field("copy", &self.copy)
            .field("read", &self.read)
            .field("cap", &self.shared.cap)
            .finish_non_exhaustive()
    }
}

/// What runs code of others and so has to wait until the locks are free, even if the body panics.
#[derive(Default)]
struct AfterLocks {
    wake: Option<Waker>,
    drop: Option<Waker>,
    freed: Vec<Piece>,
    tell: Option<Arc<Memory>>,
}

impl Drop for AfterLocks {
    fn drop(&mut self) {
        if let Some(memory) = &self.tell {
            memory.tell_over_budget();
        }
        if let Some(waker) = self.wake.take() {
            waker.wake();
        }
    }
}
