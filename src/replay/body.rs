//! A body that buffers what is read from it, up to a cap.
//!
//! The copies of a body share the original body and a [`State`]. A poll locks the original body for its whole length, and
//! the state for a few statements at a time. Everything that runs foreign code except the poll itself (wakers, events,
//! dropping data) is collected in [`AfterUnlock`] and done after both locks are released.
//!
//! | lock | guards | held | foreign code under it |
//! |---|---|---|---|
//! | `body` | the original body | for one poll, or one `supersede` | the poll of the original body |
//! | `state` | the buffer, the order of the copies | for a few statements | none |

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
    budget::{Budget, BudgetShare},
    state::{BufferedFrame, Next, ReplayError, State},
};
use crate::{
    BoxError,
    sync::{Mutex, lock},
};

/// A body that can be copied, as long as no more than a cap has to be buffered.
///
/// Frames are buffered while the first copy is read, and only if another copy exists by then. A copy first yields the
/// buffered frames, and then reads on where the last copy stopped. Only one copy is read at a time: after a later copy is
/// polled, the earlier one yields an error if it is polled again.
///
/// Beyond the cap, the buffer is freed, the copy that is being read continues to stream, and all others are no longer
/// [intact](ReplayableBody::is_intact). The cap counts bytes of data. If the body announces from the start that it is
/// larger, [`try_clone`](ReplayableBody::try_clone) returns `None`, as it does once a frame was read that is not buffered.
///
/// # Errors
///
/// The copy that is being read yields the body's own error; then no copy is intact. A copy yields an error each time that
/// it is polled after a later copy has taken over, or when it is not intact.
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
    /// What all copies share.
    shared: Arc<Shared<B>>,
    /// Number of this copy; 0 is the first.
    copy: u64,
    /// Number of buffered pieces that this copy has yielded.
    position: usize,
    /// Number of bytes of data that this copy has yielded.
    read: u64,
    /// Whether this copy was polled.
    started: bool,
}

/// What the copies of one body share.
///
/// Lock order: `body`, then `state`. `body` is held for a whole poll, so that no copy can take over during one. Only
/// polling and [`supersede`](ReplayableBody::supersede) lock `body`; the original body is polled under its lock.
struct Shared<B> {
    /// The original body. `None` once it has ended, failed or panicked, so that it is freed and not polled again.
    body: Mutex<Option<Pin<Box<B>>>>,
    /// Held for a few statements, and never while foreign code runs.
    state: Mutex<State>,
    /// The budget of the layer, if the body belongs to one.
    budget: Option<Arc<Budget>>,
    /// Maximum number of bytes of data to buffer.
    max_body_bytes: usize,
    /// Whether the body announces from the start that it is larger than the cap.
    too_large: bool,
    /// The original body's size hint before it was polled.
    size_hint: SizeHint,
    /// The original body's `is_end_stream` before it was polled.
    is_end_stream: bool,
}

impl<B: Body> ReplayBody<B> {
    /// Wraps `body`, of which at most `max_body_bytes` bytes of data are buffered.
    ///
    /// For a client without a [`RequestBodyReplayLayer`](super::RequestBodyReplayLayer), which does this for each
    /// request. The body belongs to no budget: only `max_body_bytes` limits its memory. With zero, only a body without
    /// data can be sent again.
    ///
    /// # Examples
    ///
    /// ```
    /// use http_body_util::Full;
    /// use tower_m2m::replay::{ReplayBody, ReplayableBody};
    ///
    /// // It announces its length, so it is not copied.
    /// let body = Full::<&[u8]>::from(&b"larger than the cap"[..]);
    ///
    /// assert!(ReplayBody::new(body, 8).try_clone().is_none());
    /// ```
    #[must_use]
    pub fn new(body: B, max_body_bytes: usize) -> Self {
        Self::within(body, max_body_bytes, None)
    }

    /// Wraps `body` like [`new`](Self::new), and charges what is buffered to `memory`.
    pub(super) fn within(body: B, cap: usize, memory: Option<&Arc<Budget>>) -> Self {
        let size_hint = body.size_hint();
        let is_end_stream = body.is_end_stream();
        let shared = Shared {
            body: Mutex::new(Some(Box::pin(body))),
            state: Mutex::new(State::new(
                is_end_stream,
                memory.cloned().map(BudgetShare::new),
            )),
            budget: memory.cloned(),
            max_body_bytes: cap,
            too_large: usize::try_from(size_hint.lower()).map_or(true, |lower| lower > cap),
            size_hint,
            is_end_stream,
        };
        Self::of(Arc::new(shared), 0)
    }
}

impl<B> ReplayBody<B> {
    /// Creates a copy that has not been read.
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

    /// Wakes the task of the former reader, so that its attempt ends now: it gets an error when it is polled again.
    fn supersede(&self) -> bool {
        let mut after = AfterUnlock::default();
        let Shared { body, state, .. } = &*self.shared;
        // Not during a poll: its frame would be lost for this copy.
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
        // Declared before the locks, so that it is dropped after them.
        let mut after = AfterUnlock::default();
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
        // Announced by every copy alike, so that a retry sends the same `Content-Length`.
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
    /// Polls as this copy: makes it the reader, and yields a buffered frame or reads the next one.
    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        after: &mut AfterUnlock,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.started = true;
        let Shared { body, state, .. } = &*self.shared;
        let mut body = lock(body);

        // The lock on `state` is released before the original body is polled, which is foreign code.
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

        // Taken out, so that a body that panics is not polled again.
        let Some(mut original) = body.take() else {
            after.freed = lock(state).fail();
            return Poll::Ready(Some(Err(ReplayError::Incomplete.into())));
        };
        match original.as_mut().poll_frame(cx) {
            Poll::Pending => {
                *body = Some(original);
                // The waker is cloned without the lock on `state`: that runs the executor's code.
                // Most polls come from the same task: then nothing is cloned.
                if !lock(state).would_wake(cx.waker()) {
                    let waker = cx.waker().clone();
                    after.drop = lock(state).wait(waker);
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                // `body` stays empty, so the original body is freed here.
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
                let recorded = lock(state).record(&frame, self.shared.max_body_bytes, at_end);
                // Not simply one more: small frames share a piece, and a loss empties the buffer.
                self.position = recorded.position;
                after.freed = recorded.freed;
                after.over_budget = self.shared.budget.clone().filter(|_| recorded.over_budget);
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl<B> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        // Dropped after the lock, because that runs the executor's code.
        let waker = lock(&self.shared.state).remove(self.copy);
        drop(waker);
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody")
            .field("copy", &self.copy)
            .field("read", &self.read)
            .field("max_body_bytes", &self.shared.max_body_bytes)
            .finish_non_exhaustive()
    }
}

/// Work that runs foreign code, and therefore must wait until the locks are released, even if the body panics.
#[derive(Default)]
struct AfterUnlock {
    /// Waker of the former reader, to be woken.
    wake: Option<Waker>,
    /// Waker to be dropped.
    drop: Option<Waker>,
    /// Buffered pieces to be dropped.
    freed: Vec<BufferedFrame>,
    /// Budget to report as exhausted.
    over_budget: Option<Arc<Budget>>,
}

impl Drop for AfterUnlock {
    fn drop(&mut self) {
        if let Some(memory) = &self.over_budget {
            // The pieces and the other waker are dropped after this, with the fields.
            memory.emit_over_budget();
        }
        if let Some(waker) = self.wake.take() {
            waker.wake();
        }
    }
}
