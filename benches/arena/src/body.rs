//! Response bodies that end some time after the head.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// A response body: empty, or a stream of events with the usage in the last one.
#[derive(Default)]
pub struct ResponseBody {
    chunks: VecDeque<(Instant, Bytes)>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    /// Creates the body of a completion that takes `seconds`, with its usage of the quota.
    pub fn completion(seconds: f64, tokens: u64) -> Self {
        let now = Instant::now();
        let first =
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"…\"}}],\"usage\":null}\n\n";
        let last = format!(
            "data: {{\"choices\":[],\"usage\":{{\"total_tokens\":{tokens}}}}}\n\ndata: [DONE]\n\n"
        );
        let chunks = [
            (now, Bytes::from_static(first.as_bytes())),
            (now + Duration::from_secs_f64(seconds), Bytes::from(last)),
        ];
        Self {
            chunks: chunks.into(),
            pause: None,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((at, _)) = self.chunks.front() else {
            return Poll::Ready(None);
        };
        let at = *at;
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep_until(at)));
        ready!(pause.as_mut().poll(cx));
        self.pause = None;
        let chunk = self.chunks.pop_front();
        Poll::Ready(chunk.map(|(_, chunk)| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.chunks.is_empty() {
            SizeHint::with_exact(0)
        } else {
            SizeHint::default()
        }
    }
}
