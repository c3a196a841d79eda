//! Draining of a response between two attempts, so that its connection can be reused.
//!
//! | protocol | an unread body that is dropped | a drained one |
//! |---|---|---|
//! | HTTP/1.1 | closes the connection, and the retry needs another handshake | leaves the connection in the pool |
//! | HTTP/2 | resets the stream; the connection stays | ends the stream without a reset |
//!
//! The bodies of 401, 429 and 503 responses are small, so the limits below are rarely reached.

use std::{pin::pin, time::Duration};

use bytes::Buf;
use http::Response;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

/// Reads and drops the body, up to 64 KiB and for at most `limit`. A connection that needs more is not worth saving.
///
/// Without a runtime there are no timers: the body is dropped unread.
///
/// # Cancel safety
///
/// Dropping the future drops the rest of the body.
pub(crate) async fn drain<RB: Body>(response: Response<RB>, limit: Duration) {
    let body = response.into_body();
    if body.is_end_stream() || Handle::try_current().is_err() {
        return;
    }
    let reading = async {
        let mut body = pin!(body);
        let mut read = 0;
        // Ends at an error too: the connection is lost then.
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Buf::remaining);
            if read > MAX_BYTES {
                break;
            }
        }
    };
    drop(timeout(limit, reading).await);
}

/// Upper bound on the time that draining `response` takes, for a call with this deadline. Zero for an empty body.
///
/// A retry is only decided if the longer of this time and the wait fits into the time left, because the wait runs while
/// the body is drained. Otherwise the response is returned with its body unread.
pub(crate) fn max_drain<RB: Body>(response: &Response<RB>, deadline: Option<Duration>) -> Duration {
    if response.body().is_end_stream() {
        Duration::ZERO
    } else {
        drain_limit(deadline)
    }
}

/// Upper bound on the time that draining any response takes. At most a quarter of a short deadline.
pub(crate) fn drain_limit(deadline: Option<Duration>) -> Duration {
    match deadline {
        // Draining must leave time for the next attempt.
        Some(deadline) if deadline < LIMIT => deadline / 4,
        _ => LIMIT,
    }
}

/// Waits. Without a runtime there are no timers, and it returns at once.
///
/// # Cancel safety
///
/// Dropping the future ends the wait.
pub(crate) async fn sleep_on_runtime(wait: Duration) {
    if !wait.is_zero() && Handle::try_current().is_ok() {
        sleep(wait).await;
    }
}

/// Maximum number of bytes that are drained.
const MAX_BYTES: usize = 64 * 1024;
/// Default upper bound on the time that draining takes.
pub(crate) const LIMIT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use http_body::Frame;

    use super::*;

    /// A hundred chunks of a given size, followed by a given end.
    struct Chunks<'a> {
        size: usize,
        read: &'a mut usize,
        then: Poll<Option<()>>,
    }

    impl Body for Chunks<'_> {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            if *self.read == 100 {
                return self
                    .then
                    .map(|end| end.map(|()| Err(io::Error::other("reset"))));
            }
            *self.read += 1;
            let chunk = Bytes::from(vec![0; self.size]);
            Poll::Ready(Some(Ok(Frame::data(chunk))))
        }
    }

    /// How many chunks of a response are read.
    async fn read(size: usize, then: Poll<Option<()>>) -> usize {
        let mut read = 0;
        let body = Chunks {
            size,
            read: &mut read,
            then,
        };
        drain(Response::new(body), LIMIT).await;
        read
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_up_to_64_kib_is_drained() {
        let end = Poll::Ready(None);

        assert_eq!(read(100, end).await, 100);
        // 64 KiB exactly are not too much.
        assert_eq!(read(32 * 1024, end).await, 3);
        assert_eq!(read(64 * 1024 + 1, end).await, 1);
    }

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "on the paused clock")]
    async fn draining_stops_after_half_a_second() {
        let began = tokio::time::Instant::now();

        assert_eq!(read(1, Poll::Pending).await, 100);

        assert_eq!(began.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_stops_on_an_error() {
        assert_eq!(read(1, Poll::Ready(Some(()))).await, 100);
    }
}
