//! Reads bodies by hand, without a runtime.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;

#[derive(Default)]
pub(crate) struct Count(AtomicUsize);

impl Count {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) fn counting() -> (Waker, Arc<Count>) {
    let count = Arc::new(Count::default());
    (Waker::from(Arc::clone(&count)), count)
}

pub(crate) fn poll<B: Body + Unpin>(
    body: &mut B,
    waker: &Waker,
) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
    Pin::new(body).poll_frame(&mut Context::from_waker(waker))
}

/// The data of the next frame, which must be there.
pub(crate) fn next<B>(body: &mut B) -> Option<Result<Bytes, B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    match poll(body, Waker::noop()) {
        Poll::Ready(item) => {
            item.map(|item| item.map(|frame| frame.into_data().unwrap_or_default()))
        }
        Poll::Pending => panic!("nothing is there"),
    }
}

pub(crate) fn error<B>(body: &mut B) -> String
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: ToString,
{
    next(body).unwrap().unwrap_err().to_string()
}

/// The whole rest of a body that never waits.
pub(crate) fn read<B>(body: B) -> Result<Bytes, String>
where
    B: Body<Data = Bytes>,
    B::Error: ToString,
{
    match now(pin!(body.collect())) {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn now<F: Future>(future: Pin<&mut F>) -> F::Output {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}
