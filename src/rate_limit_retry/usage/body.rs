//! A response body whose usage is read as it passes.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    super::CostUsed,
    event_stream::{EventStream, Part},
    members::{Members, Values},
    scanner::Scanner,
};

pin_project! {
    /// A response body whose usage a [`ReadUsageLayer`](super::ReadUsageLayer) reads. Yields the same frames.
    ///
    /// # Errors
    ///
    /// Yields the errors of the original body.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Full};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_m2m::{BoxError, rate_limit_retry::{ReadUsageLayer, UsageBody}};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let http = service_fn(async |_: Request<()>| {
    ///     let response = Response::builder().header("content-type", "application/json");
    ///     Ok::<_, BoxError>(response.body(Full::from(&b"{}"[..]))?)
    /// });
    ///
    /// let response = ReadUsageLayer::new().layer(http).oneshot(Request::new(())).await?;
    ///
    /// let body: UsageBody<Full<&[u8]>> = response.into_body();
    /// assert_eq!(body.collect().await?.to_bytes(), "{}");
    /// # Ok(())
    /// # }
    /// ```
    pub struct UsageBody<B> {
        #[pin]
        body: B,
        // Reads the usage. `None` if it is not read, and once the body has ended.
        meter: Option<Box<Meter>>,
    }
}

impl<B> UsageBody<B> {
    /// Wraps a body.
    pub(super) fn new(body: B, meter: Option<Box<Meter>>) -> Self {
        Self { body, meter }
    }
}

impl<B: Body> Body for UsageBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        let frame = frame.map(|frame| frame.map(into_bytes));
        match &frame {
            Some(Ok(frame)) => {
                if let Some((meter, data)) = this.meter.as_mut().zip(frame.data_ref()) {
                    meter.read(data);
                }
                // A body that reports its end is not necessarily polled again.
                if this.body.is_end_stream() {
                    end(this.meter);
                }
            }
            Some(Err(_)) => *this.meter = None,
            None => end(this.meter),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for UsageBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageBody").finish_non_exhaustive()
    }
}

/// How the JSON of a body is arranged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    /// One document.
    Document,
    /// One document in each line.
    Lines,
    /// One document in each event.
    EventStream,
}

/// Reads the usage in one body. Dropping it reports the usage, if the final one was found, and releases the handle.
pub(super) struct Meter {
    /// Receives the cost.
    cost_used: CostUsed,
    /// The members to read.
    members: Arc<Members>,
    /// How the documents are arranged.
    format: Format,
    /// The reader of events, for that format.
    events: EventStream,
    /// The scanner of the current document.
    scanner: Scanner,
    /// The values that were found.
    values: Values,
}

impl Meter {
    /// Creates a meter for one body.
    pub(super) fn new(cost_used: CostUsed, members: Arc<Members>, format: Format) -> Self {
        Self {
            values: Values::new(&members),
            cost_used,
            members,
            format,
            events: EventStream::default(),
            scanner: Scanner::default(),
        }
    }

    /// Reads the next data of the body.
    fn read(&mut self, data: &[u8]) {
        let (members, values) = (&self.members, &mut self.values);
        let scanner = &mut self.scanner;
        match self.format {
            Format::Document => scanner.read(data, members, values),
            Format::Lines => {
                for line in data.split_inclusive(|byte| *byte == b'\n') {
                    scanner.read(line, members, values);
                    if line.ends_with(b"\n") {
                        scanner.end(members, values);
                    }
                }
            }
            Format::EventStream => self.events.read(data, |part| match part {
                Part::Data(text) => scanner.read(text, members, values),
                // An event that is malformed does not affect the next one.
                Part::End => scanner.end(members, values),
            }),
        }
    }

    /// Reports what was found.
    fn report(&self) {
        if let Some(cost) = self.values.cost(&self.members) {
            self.cost_used.set(cost);
        }
        if let Some(limit) = self.values.limit() {
            self.cost_used.announce(limit);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // Without the final usage, more may have been used than was found.
        if self.values.are_final() {
            self.report();
        }
    }
}

/// Ends the measurement of a body that has ended, and reports what was found.
fn end(meter: &mut Option<Box<Meter>>) {
    if let Some(mut meter) = meter.take() {
        let Meter {
            members,
            values,
            scanner,
            ..
        } = &mut *meter;
        scanner.end(members, values);
        meter.report();
    }
}

/// Copies the data of a frame into `Bytes`, which is free for data that is `Bytes` already.
fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}
