//! What the copies of one body know together: whose turn it is, and what has been read.

use std::{error::Error, fmt, mem, task::Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::memory::Share;

/// Every copy of the body writes and reads this, under a lock that is held for a few statements and never while
/// foreign code runs.
///
/// `copies` lists the copies that may still be read, in the order in which they are sent. A copy comes right after the
/// one it was made of, which is right for several layers that retry: of the copies that they made of one body, the one
/// made last belongs to the innermost layer, which sends again first. At most one copy has been polled, the reader; a
/// copy that takes over strikes the former reader off, and one that comes before the reader may not take over, because
/// its attempt was given up.
pub(super) struct State {
    copies: Vec<u64>,
    made: u64,
    reader: Option<u64>,
    /// Wakes the reader's task while it waits for the original body.
    waker: Option<Waker>,
    remembered: Vec<Piece>,
    size: usize,
    /// Of what the bodies of a layer may remember together, as long as this one remembers anything.
    share: Option<Share>,
    /// Something was read that is not remembered, so that only the reader can go on.
    lost: bool,
    /// The original body failed, so that the reader cannot go on either.
    failed: bool,
    ended: bool,
    /// What the original body's `is_end_stream` said last.
    at_end: bool,
}

impl State {
    /// The state of a body of which there is one copy, number 0, and nothing was read.
    pub(super) fn new(at_end: bool, share: Option<Share>) -> Self {
        Self {
            copies: vec![0],
            made: 0,
            reader: None,
            waker: None,
            remembered: Vec::new(),
            size: 0,
            share,
            lost: false,
            failed: false,
            ended: false,
            at_end,
        }
    }

    /// The number of a new copy made of `copy`.
    pub(super) fn add(&mut self, copy: u64) -> Option<u64> {
        if self.lost {
            return None;
        }
        let source = self.place(copy)?;
        let reader = self.reader.and_then(|reader| self.place(reader));
        self.made += 1;
        let place = source.max(reader.unwrap_or(source)) + 1;
        self.copies.insert(place, self.made);
        Some(self.made)
    }

    /// Forgets `copy`, which is dropped. Whoever calls drops the waker after the lock.
    pub(super) fn remove(&mut self, copy: u64) -> Option<Waker> {
        self.copies.retain(|other| *other != copy);
        if self.reader != Some(copy) {
            return None;
        }
        self.reader = None;
        self.waker.take()
    }

    pub(super) fn is_intact(&self, copy: u64) -> bool {
        self.standing(copy).is_ok() && !self.failed
    }

    /// Makes `copy` the reader. Whoever calls wakes the former reader after the lock, so that it does not wait for ever.
    pub(super) fn claim(&mut self, copy: u64) -> Result<Option<Waker>, Refused> {
        if let Err(refused) = self.standing(copy) {
            if let Refused::Superseded = refused {
                self.copies.retain(|other| *other != copy);
            }
            return Err(refused);
        }
        if self.reader == Some(copy) {
            return Ok(None);
        }
        if let Some(former) = self.reader.replace(copy) {
            self.copies.retain(|other| *other != former);
        }
        Ok(self.waker.take())
    }

    /// Makes `copy` the reader if it can be sent in full. The body must not be polled meanwhile. Whoever calls wakes the
    /// former reader after the lock.
    pub(super) fn supersede(&mut self, copy: u64) -> Result<Option<Waker>, Refused> {
        if self.failed {
            return Err(Refused::Incomplete);
        }
        self.claim(copy)
    }

    /// What the reader, which has got to `position`, is to do next.
    pub(super) fn next(&mut self, position: usize) -> Next {
        match self.remembered.get_mut(position) {
            Some(piece) => Next::Replay(piece.next_frame()),
            None if self.ended => Next::End,
            None => Next::Read,
        }
    }

    /// Whether the reader, which has got to `position`, need not be polled again.
    pub(super) fn is_end(&self, copy: u64, position: usize) -> bool {
        let at_end = self.ended || self.at_end;
        at_end && self.reader == Some(copy) && position >= self.remembered.len()
    }

    /// Whether the reader's task is known to be the one that `waker` wakes.
    pub(super) fn would_wake(&self, waker: &Waker) -> bool {
        let known = self.waker.as_ref();
        known.is_some_and(|known| known.will_wake(waker))
    }

    /// Remembers the reader's task. Whoever calls drops the former waker after the lock.
    pub(super) fn wait(&mut self, waker: Waker) -> Option<Waker> {
        self.waker.replace(waker)
    }

    /// Notes what the reader read.
    pub(super) fn record(&mut self, frame: &Frame<Bytes>, cap: usize, at_end: bool) -> Recorded {
        self.at_end = at_end;
        let length = frame.data_ref().map(Bytes::len);
        // Empty frames are no part of the bytes, and there may be any number of them.
        if self.lost || length == Some(0) {
            return Recorded::at(self.remembered.len());
        }
        let size = self.size.saturating_add(length.unwrap_or(0));
        // The last copy there is needs no memory: only itself could be copied, and it can do without.
        let wanted = self.copies.len() > 1 && size <= cap;
        let kept = if wanted {
            self.remember(frame)
        } else {
            Err(Unkept::Unwanted)
        };
        match kept {
            Ok(replaced) => {
                self.size = size;
                Recorded {
                    freed: replaced.into_iter().collect(),
                    ..Recorded::at(self.remembered.len())
                }
            }
            Err(unkept) => {
                self.lost = true;
                self.share = None;
                Recorded {
                    freed: mem::take(&mut self.remembered),
                    over_budget: matches!(unkept, Unkept::OverBudget),
                    ..Recorded::at(0)
                }
            }
        }
    }

    /// Keeps a frame: a large one by reference, small ones in a buffer that they share. What that makes needless is
    /// returned, to be dropped after the lock.
    fn remember(&mut self, frame: &Frame<Bytes>) -> Result<Option<Piece>, Unkept> {
        let share = &mut self.share;
        if let Some(data) = frame.data_ref() {
            let small = data.len() < SMALL;
            if small && let Some(last) = self.remembered.last_mut().filter(|p| p.takes(data)) {
                return last.append(data, share);
            }
            grow(share, data.len())?;
            self.remembered.push(Piece::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            grow(share, size_of_fields(trailers))?;
            self.remembered
                .push(Piece::Trailers(Box::new(trailers.clone())));
        } else {
            // A kind of frame that http-body does not have yet.
            return Err(Unkept::Unwanted);
        }
        Ok(None)
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Notes that the original body failed. Whoever calls drops the pieces after the lock.
    pub(super) fn fail(&mut self) -> Vec<Piece> {
        self.lost = true;
        self.failed = true;
        self.at_end = false;
        self.share = None;
        mem::take(&mut self.remembered)
    }

    fn standing(&self, copy: u64) -> Result<(), Refused> {
        let place = self.place(copy).ok_or(Refused::Superseded)?;
        match self.reader {
            Some(reader) if reader == copy => Ok(()),
            Some(reader) if self.place(reader) > Some(place) => Err(Refused::Superseded),
            _ if self.lost => Err(Refused::Incomplete),
            _ => Ok(()),
        }
    }

    fn place(&self, copy: u64) -> Option<usize> {
        self.copies.iter().position(|other| *other == copy)
    }
}

/// What noting a frame came to.
pub(super) struct Recorded {
    /// Where the reader is now.
    pub(super) position: usize,
    /// To be dropped after the lock.
    pub(super) freed: Vec<Piece>,
    /// The layer's bodies remember as much as they may; told after the lock.
    pub(super) over_budget: bool,
}

impl Recorded {
    fn at(position: usize) -> Self {
        Self {
            position,
            freed: Vec::new(),
            over_budget: false,
        }
    }
}

/// What is remembered of the body: a frame, or several small ones.
pub(super) enum Piece {
    Data(Bytes),
    /// Small frames, one after the other. Its capacity is charged.
    Small(Vec<u8>),
    Trailers(Box<HeaderMap>),
}

impl Piece {
    /// Whether a small frame is added to this piece.
    fn takes(&self, data: &Bytes) -> bool {
        match self {
            Self::Data(first) => first.len() < SMALL,
            Self::Small(buffer) => buffer.len() + data.len() <= BUFFER,
            Self::Trailers(_) => false,
        }
    }

    /// Adds `data`. Returns the frame that the buffer replaces.
    fn append(&mut self, data: &Bytes, share: &mut Option<Share>) -> Result<Option<Self>, Unkept> {
        match self {
            Self::Data(first) => {
                let mut buffer = Vec::new();
                reserve(&mut buffer, first.len(), first.len() + data.len(), share)?;
                buffer.extend_from_slice(first);
                buffer.extend_from_slice(data);
                Ok(Some(mem::replace(self, Self::Small(buffer))))
            }
            Self::Small(buffer) => {
                let length = buffer.len() + data.len();
                if length > buffer.capacity() {
                    let charged = buffer.capacity();
                    reserve(buffer, charged, (2 * charged).clamp(length, BUFFER), share)
                        .or_else(|_| reserve(buffer, charged, length, share))?;
                }
                buffer.extend_from_slice(data);
                Ok(None)
            }
            Self::Trailers(_) => Err(Unkept::Unwanted),
        }
    }

    /// The frame. Frames that share a buffer are one.
    fn next_frame(&mut self) -> Frame<Bytes> {
        if let Self::Small(buffer) = self {
            *self = Self::Data(mem::take(buffer).into());
        }
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(trailers) => Frame::trailers(HeaderMap::clone(trailers)),
            Self::Small(_) => Frame::data(Bytes::new()),
        }
    }
}

/// Why a frame is not remembered.
#[derive(Debug)]
enum Unkept {
    /// Beyond the cap, or there is no other copy.
    Unwanted,
    OverBudget,
}

/// Makes room for `capacity` bytes in a buffer of which `charged` bytes have been charged.
fn reserve(
    buffer: &mut Vec<u8>,
    charged: usize,
    capacity: usize,
    share: &mut Option<Share>,
) -> Result<(), Unkept> {
    grow(share, capacity.saturating_sub(charged))?;
    buffer.reserve_exact(capacity - buffer.len());
    Ok(())
}

fn grow(share: &mut Option<Share>, bytes: usize) -> Result<(), Unkept> {
    let within = share.as_mut().is_none_or(|share| share.grow(bytes));
    within.then_some(()).ok_or(Unkept::OverBudget)
}

/// Approximate number of bytes that a copy of these fields allocates.
fn size_of_fields(fields: &HeaderMap) -> usize {
    let each = fields.iter();
    let text: usize = each
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    text + fields.capacity() * FIELD
}

/// Length, in bytes, from which on a frame is kept by reference.
const SMALL: usize = 1024;
/// Maximum size, in bytes, of a buffer that small frames share.
const BUFFER: usize = 8 * 1024;
/// Size, in bytes, of an entry of a header map.
const FIELD: usize = 104;

/// What the reader is to do.
pub(super) enum Next {
    Replay(Frame<Bytes>),
    Read,
    End,
}

/// Why a copy yields an error instead of its body.
#[derive(Debug)]
pub(super) enum Refused {
    Superseded,
    Incomplete,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superseded => "request body superseded by a later attempt",
            Self::Incomplete => "request body is no longer complete and cannot be sent again; the replay layer's `.cap(..)` says how much is kept",
        })
    }
}

impl Error for Refused {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_empty_or_comes_after_a_loss_is_not_remembered() {
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
            assert!(matches!(state.claim(1), Err(Refused::Incomplete)));
        }
    }

    #[test]
    fn the_task_that_waits_is_known() {
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
