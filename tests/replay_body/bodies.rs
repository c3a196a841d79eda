//! Bodies of a few frames, of frames that come later, and one that panics.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Frames that are all there from the start, and then perhaps trailers.
#[derive(Default)]
pub(crate) struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    exact: bool,
}

impl Frames {
    pub(crate) fn of(frames: &[&str]) -> Self {
        Self::of_bytes(
            frames
                .iter()
                .map(|frame| Bytes::copy_from_slice(frame.as_bytes())),
        )
    }

    pub(crate) fn of_bytes(frames: impl IntoIterator<Item = Bytes>) -> Self {
        let frames = frames.into_iter().map(Frame::data).collect();
        Self {
            frames,
            exact: false,
        }
    }

    pub(crate) fn trailers(mut self, value: &'static str) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", value.parse().unwrap());
        self.frames.push_back(Frame::trailers(trailers));
        self
    }

    pub(crate) fn exact(mut self) -> Self {
        self.exact = true;
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.frames.pop_front().map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        if !self.exact {
            return SizeHint::new();
        }
        let data = self.frames.iter().filter_map(Frame::data_ref);
        SizeHint::with_exact(data.map(|data| data.len() as u64).sum())
    }
}

/// A body that waits for what the test sends.
pub(crate) struct Feed(mpsc::UnboundedReceiver<Result<Bytes, &'static str>>);

impl Feed {
    pub(crate) fn new() -> (mpsc::UnboundedSender<Result<Bytes, &'static str>>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self(receiver))
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.0
            .poll_recv(cx)
            .map(|item| item.map(|item| item.map(Frame::data)))
    }
}

pub(crate) struct Panics;

impl Body for Panics {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("a panic on purpose")
    }
}
