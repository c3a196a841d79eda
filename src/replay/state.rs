//! The state that the copies of one body share: which copy may read, and what has been buffered.
//!
//! A life of a body with two copies, 0 and 1:
//!
//! 1. Copy 0 is polled and becomes the reader. Each frame it reads is also buffered, because copy 1 may need it.
//! 2. Copy 1 is polled, or `supersede` is called on it. It becomes the reader, and copy 0 yields errors from then on.
//! 3. Copy 1 yields the buffered frames, and then polls the original body where copy 0 stopped. These frames are not
//!    buffered, because no other copy is left.
//!
//! If a frame in step 1 exceeds the cap or the budget, the buffer is freed, and copy 1 can no longer be sent in full: it
//! yields an error, never a part of the body.
//!
//! | state of a copy | polled | `supersede` | `is_intact` |
//! |---|---|---|---|
//! | after the reader, nothing lost | takes over | takes over, `true` | `true` |
//! | after the reader, frames lost | error: incomplete | `false` | `false` |
//! | the reader | continues, also after a loss | `true` unless the body failed | `true` unless the body failed |
//! | before the reader, or removed | error: superseded | `false` | `false` |
//!
//! Each operation takes time proportional to the number of copies, which is small: one for the attempt in flight, and
//! one for each layer that may retry. Buffering a small frame also takes time proportional to its length, amortized.

use std::{error::Error, fmt, mem, task::Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::budget::BudgetShare;

/// The state of one body, shared by all of its copies. Its lock is held for a few statements, and never while foreign code
/// runs.
///
/// `copies` lists the copies that may still be read, in the order in which they are sent. A new copy is inserted right
/// after the one it was made of. This order is right for nested layers that retry: of the copies that they made of one
/// body, the last one belongs to the innermost layer, which retries first. At most one copy is the reader: the one that
/// was polled. A copy that takes over removes the former reader from the list. A copy before the reader may not take over,
/// because its attempt was abandoned.
pub(super) struct State {
    /// Numbers of the copies that may still be read, in the order in which they are sent.
    copies: Vec<u64>,
    /// Number of the latest copy.
    last_copy: u64,
    /// The copy that is being read.
    reader: Option<u64>,
    /// Wakes the reader's task while it waits for the original body.
    waker: Option<Waker>,
    /// The buffered frames, in order.
    buffered: Vec<BufferedFrame>,
    /// Number of bytes of data in `buffered`.
    size: usize,
    /// What is charged to the layer's budget. `None` without a budget, and after a loss.
    share: Option<BudgetShare>,
    /// Whether a frame was read that is not buffered, so that only the reader can continue.
    incomplete: bool,
    /// Whether the original body failed, so that the reader cannot continue either.
    failed: bool,
    /// Whether the original body has ended.
    ended: bool,
    /// The last result of the original body's `is_end_stream`.
    at_end: bool,
}

impl State {
    /// Creates the state of a body with one copy, number 0, of which nothing was read.
    pub(super) fn new(at_end: bool, share: Option<BudgetShare>) -> Self {
        Self {
            copies: vec![0],
            last_copy: 0,
            reader: None,
            waker: None,
            buffered: Vec::new(),
            size: 0,
            share,
            incomplete: false,
            failed: false,
            ended: false,
            at_end,
        }
    }

    /// Adds a copy made of `copy`, and returns its number; `None` if a new copy could not be sent in full.
    ///
    /// | made of | placed |
    /// |---|---|
    /// | a copy that is not read yet | right after it |
    /// | the reader, or a copy before it | right after the reader |
    pub(super) fn add(&mut self, copy: u64) -> Option<u64> {
        if self.incomplete {
            return None;
        }
        // A copy that was superseded cannot be copied: its frames may be gone.
        let source = self.position_of(copy)?;
        let reader = self.reader.and_then(|reader| self.position_of(reader));
        self.last_copy += 1;
        // Not before the reader: such a copy could not take over.
        let rank = source.max(reader.unwrap_or(source)) + 1;
        self.copies.insert(rank, self.last_copy);
        Some(self.last_copy)
    }

    /// Removes `copy`, which is being dropped. The caller drops the returned waker after the lock is released.
    pub(super) fn remove(&mut self, copy: u64) -> Option<Waker> {
        self.copies.retain(|other| *other != copy);
        if self.reader != Some(copy) {
            return None;
        }
        self.reader = None;
        self.waker.take()
    }

    /// Returns whether `copy` can still be sent in full.
    pub(super) fn is_intact(&self, copy: u64) -> bool {
        self.check_current(copy).is_ok() && !self.failed
    }

    /// Makes `copy` the reader. The caller wakes the former reader's waker after the lock is released: it would otherwise
    /// wait forever.
    pub(super) fn claim(&mut self, copy: u64) -> Result<Option<Waker>, ReplayError> {
        if let Err(refused) = self.check_current(copy) {
            // Removed, so that it stays superseded after the reader is dropped.
            if let ReplayError::Superseded = refused {
                self.copies.retain(|other| *other != copy);
            }
            return Err(refused);
        }
        if self.reader == Some(copy) {
            return Ok(None);
        }
        // The former reader yields only errors from now on, so its place is not needed.
        if let Some(former) = self.reader.replace(copy) {
            self.copies.retain(|other| *other != former);
        }
        Ok(self.waker.take())
    }

    /// Makes `copy` the reader if it can be sent in full. The caller holds the lock on the original body, so that nothing
    /// polls it, and wakes the former reader's waker after the lock is released.
    pub(super) fn supersede(&mut self, copy: u64) -> Result<Option<Waker>, ReplayError> {
        if self.failed {
            return Err(ReplayError::Incomplete);
        }
        self.claim(copy)
    }

    /// Returns what the reader, which has yielded `position` pieces, does next.
    pub(super) fn next(&mut self, position: usize) -> Next {
        match self.buffered.get_mut(position) {
            Some(piece) => Next::Replay(piece.next_frame()),
            None if self.ended => Next::End,
            None => Next::Read,
        }
    }

    /// Returns whether `copy` is the reader, has yielded `position` pieces, and need not be polled again.
    pub(super) fn is_end(&self, copy: u64, position: usize) -> bool {
        let at_end = self.ended || self.at_end;
        at_end && self.reader == Some(copy) && position >= self.buffered.len()
    }

    /// Returns whether `waker` wakes the reader's task.
    pub(super) fn would_wake(&self, waker: &Waker) -> bool {
        let known = self.waker.as_ref();
        known.is_some_and(|known| known.will_wake(waker))
    }

    /// Stores the waker of the reader's task. The caller drops the former waker after the lock is released.
    pub(super) fn wait(&mut self, waker: Waker) -> Option<Waker> {
        self.waker.replace(waker)
    }

    /// Records a frame that the reader has read, and buffers it if it is needed and allowed.
    ///
    /// | frame | effect |
    /// |---|---|
    /// | empty data | passed on, never buffered |
    /// | needed, and within cap and budget | buffered |
    /// | not needed, as no other copy is left | not buffered; no new copy can be made |
    /// | beyond the cap or the budget | the buffer is freed; the other copies are lost |
    pub(super) fn record(&mut self, frame: &Frame<Bytes>, cap: usize, at_end: bool) -> Recorded {
        self.at_end = at_end;
        let length = frame.data_ref().map(Bytes::len);
        // Empty frames add no bytes, and there may be any number of them.
        if self.incomplete || length == Some(0) {
            return Recorded::at(self.buffered.len());
        }
        let size = self.size.saturating_add(length.unwrap_or(0));
        // The last remaining copy needs no buffer: a new copy could only be made of itself, and it can be sent without.
        let wanted = self.copies.len() > 1 && size <= cap;
        let content = if wanted {
            self.buffer(frame)
        } else {
            Err(NotBuffered::Unwanted)
        };
        match content {
            Ok(replaced) => {
                self.size = size;
                Recorded {
                    freed: replaced.into_iter().collect(),
                    ..Recorded::at(self.buffered.len())
                }
            }
            Err(unkept) => {
                self.incomplete = true;
                self.share = None;
                Recorded {
                    // A part of the buffer is of no use: freeing it returns memory early.
                    freed: mem::take(&mut self.buffered),
                    over_budget: matches!(unkept, NotBuffered::OverBudget),
                    ..Recorded::at(0)
                }
            }
        }
    }

    /// Buffers a frame: a large one by reference, small ones in a shared buffer. Returns the piece that this replaces, to be
    /// dropped after the lock is released.
    fn buffer(&mut self, frame: &Frame<Bytes>) -> Result<Option<BufferedFrame>, NotBuffered> {
        let share = &mut self.share;
        if let Some(data) = frame.data_ref() {
            let small = data.len() < MIN_SHARED_BYTES;
            if small && let Some(last) = self.buffered.last_mut().filter(|p| p.accepts(data)) {
                return last.append(data, share);
            }
            grow(share, data.len())?;
            self.buffered.push(BufferedFrame::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            grow(share, size_of_fields(trailers))?;
            self.buffered
                .push(BufferedFrame::Trailers(Box::new(trailers.clone())));
        } else {
            // A kind of frame that http-body does not have yet.
            return Err(NotBuffered::Unwanted);
        }
        Ok(None)
    }

    /// Records that the original body has ended.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Records that the original body failed. The caller drops the returned pieces after the lock is released.
    pub(super) fn fail(&mut self) -> Vec<BufferedFrame> {
        self.incomplete = true;
        self.failed = true;
        self.at_end = false;
        self.share = None;
        mem::take(&mut self.buffered)
    }

    /// Returns an error if `copy` may not become the reader, or stay it.
    ///
    /// `Superseded` takes precedence over `Incomplete`: it is the more precise reason.
    fn check_current(&self, copy: u64) -> Result<(), ReplayError> {
        let rank = self.position_of(copy).ok_or(ReplayError::Superseded)?;
        // The reader continues even after a loss: it has read past what is missing.
        match self.reader {
            Some(reader) if reader == copy => Ok(()),
            // Copies are sent in order, so one before the reader belongs to an attempt that was abandoned.
            Some(reader) if self.position_of(reader) > Some(rank) => Err(ReplayError::Superseded),
            // A new reader would start from the buffer, in which frames are missing.
            _ if self.incomplete => Err(ReplayError::Incomplete),
            _ => Ok(()),
        }
    }

    /// Returns the index of `copy` in the order of sending.
    fn position_of(&self, copy: u64) -> Option<usize> {
        self.copies.iter().position(|other| *other == copy)
    }
}

/// The result of recording a frame.
pub(super) struct Recorded {
    /// The reader's new position.
    pub(super) position: usize,
    /// Pieces to be dropped after the lock is released.
    pub(super) freed: Vec<BufferedFrame>,
    /// Whether the frame exceeded the layer's budget. Reported after the lock is released.
    pub(super) over_budget: bool,
}

impl Recorded {
    /// Creates a result without anything to drop or report.
    fn at(position: usize) -> Self {
        Self {
            position,
            freed: Vec::new(),
            over_budget: false,
        }
    }
}

/// A buffered part of the body: one frame, or several small ones.
///
/// Small frames are merged because a stream of one-byte frames would otherwise cost many times its length. A copy
/// yields them as one frame: frame boundaries carry no meaning in HTTP.
pub(super) enum BufferedFrame {
    /// A frame of data.
    Data(Bytes),
    /// Consecutive small frames. Its capacity is charged to the budget.
    Small(Vec<u8>),
    /// The trailers. Boxed, because they are rare and large.
    Trailers(Box<HeaderMap>),
}

impl BufferedFrame {
    /// Returns whether the small frame `data` can be appended to this piece.
    fn accepts(&self, data: &Bytes) -> bool {
        match self {
            Self::Data(first) => first.len() < MIN_SHARED_BYTES,
            Self::Small(buffer) => buffer.len() + data.len() <= MAX_BUFFER_BYTES,
            Self::Trailers(_) => false,
        }
    }

    /// Appends `data`. Returns the frame that the buffer replaces.
    fn append(
        &mut self,
        data: &Bytes,
        share: &mut Option<BudgetShare>,
    ) -> Result<Option<Self>, NotBuffered> {
        match self {
            // The first small frame was stored by reference: the second one turns it into a buffer.
            Self::Data(first) => {
                let mut buffer = Vec::new();
                reserve(&mut buffer, first.len(), first.len() + data.len(), share)?;
                buffer.extend_from_slice(first);
                buffer.extend_from_slice(data);
                Ok(Some(mem::replace(self, Self::Small(buffer))))
            }
            Self::Small(buffer) => {
                let length = buffer.len() + data.len();
                // Doubles, as `Vec` does, within the buffer's limit; if the budget does not allow that, takes only
                // what is needed.
                if length > buffer.capacity() {
                    let charged = buffer.capacity();
                    reserve(
                        buffer,
                        charged,
                        (2 * charged).clamp(length, MAX_BUFFER_BYTES),
                        share,
                    )
                    .or_else(|_| reserve(buffer, charged, length, share))?;
                }
                buffer.extend_from_slice(data);
                Ok(None)
            }
            Self::Trailers(_) => Err(NotBuffered::Unwanted),
        }
    }

    /// Returns the piece as one frame. A buffer of small frames becomes one shared frame, which grows no more.
    fn next_frame(&mut self) -> Frame<Bytes> {
        if let Self::Small(buffer) = self {
            // `Bytes` takes over the buffer without copying, so that each copy shares it.
            *self = Self::Data(mem::take(buffer).into());
        }
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(trailers) => Frame::trailers(HeaderMap::clone(trailers)),
            Self::Small(_) => Frame::data(Bytes::new()),
        }
    }
}

/// The reason why a frame is not buffered.
#[derive(Debug)]
enum NotBuffered {
    /// It exceeds the cap, or there is no other copy.
    Unwanted,
    /// It exceeds the layer's budget.
    OverBudget,
}

/// Grows `buffer` to `capacity` bytes, of which `charged` bytes have been charged.
fn reserve(
    buffer: &mut Vec<u8>,
    charged: usize,
    capacity: usize,
    share: &mut Option<BudgetShare>,
) -> Result<(), NotBuffered> {
    // Charged before it is allocated, so that the budget is never exceeded.
    grow(share, capacity.saturating_sub(charged))?;
    buffer.reserve_exact(capacity - buffer.len());
    Ok(())
}

/// Charges `bytes` to the budget, if there is one.
fn grow(share: &mut Option<BudgetShare>, bytes: usize) -> Result<(), NotBuffered> {
    let within = share.as_mut().is_none_or(|share| share.grow(bytes));
    within.then_some(()).ok_or(NotBuffered::OverBudget)
}

/// Returns the approximate number of bytes that a copy of these fields allocates.
fn size_of_fields(fields: &HeaderMap) -> usize {
    let each = fields.iter();
    let text: usize = each
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    // The table is allocated for its capacity, not for its entries.
    text + fields.capacity() * FIELD_SIZE
}

/// Length, in bytes, from which on a frame is buffered by reference.
const MIN_SHARED_BYTES: usize = 1024;
/// Maximum size, in bytes, of a buffer of small frames.
const MAX_BUFFER_BYTES: usize = 8 * 1024;
/// Approximate size, in bytes, of an entry of a header map.
const FIELD_SIZE: usize = 104;

/// What the reader does next.
pub(super) enum Next {
    /// Yields a buffered frame.
    Replay(Frame<Bytes>),
    /// Polls the original body.
    Read,
    /// Ends: the original body has ended.
    End,
}

/// The reason why a copy yields an error instead of its body.
#[derive(Debug)]
pub(super) enum ReplayError {
    /// A later copy has taken over.
    Superseded,
    /// A part of the body is no longer buffered, or the original body failed.
    Incomplete,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superseded => "request body superseded by a later attempt",
            Self::Incomplete => {
                "request body is no longer complete and cannot be sent again; the replay layer's \
                                 `.max_body_bytes(..)` limits how much is buffered"
            }
        })
    }
}

impl Error for ReplayError {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn empty_frames_and_frames_after_a_loss_are_not_buffered() {
        for pieces in [
            &[("abc", 1), ("", 1), ("d", 1), ("e", 0), ("", 0)][..],
            &[("abcde", 0), ("f", 0), ("", 0)],
        ] {
            let mut state = State::new(false, None);
            assert_eq!(state.add(0), Some(1));
            assert!(state.claim(0).is_ok());
            for (data, position) in pieces {
                let frame = Frame::data(Bytes::from_static(data.as_bytes()));
                let recorded = state.record(&frame, 4, false);
                assert_eq!(recorded.position, *position, "{data} of {pieces:?}");
            }
            assert!(matches!(state.next(0), Next::Read));
            assert!(matches!(state.claim(1), Err(ReplayError::Incomplete)));
        }
    }

    #[test]
    fn the_waiting_task_is_recognized() {
        struct Task;

        impl std::task::Wake for Task {
            fn wake(self: Arc<Self>) {}
        }

        let mut state = State::new(false, None);
        let [first, second] = [(); 2].map(|()| Waker::from(Arc::new(Task)));
        assert!(!state.would_wake(&first));
        assert!(state.wait(first.clone()).is_none());
        assert!(state.would_wake(&first));
        assert!(!state.would_wake(&second));
    }
}
