//! Reads the cost of a request from the JSON of its response.
//!
//! Servers that count tokens or points report the cost of a request in the body of its response: a language model at
//! the end of a stream, a GraphQL server in `extensions`. The layer reads the body as it passes and reports the cost to
//! the request's [`CostUsed`](super::CostUsed).
//!
//! The body is not delayed, buffered or changed. A scanner follows the nesting of the JSON and keeps only the current
//! key or number, so that its memory does not depend on the body.
//!
//! | file | contents |
//! |---|---|
//! | `mod` (here) | the layer, the service and its future |
//! | `body` | the body whose usage is read, and the end of a measurement |
//! | `members` | the members of the JSON that are read, and the cost that they add up to |
//! | `event_stream` | the `data` lines of server-sent events |
//! | `scanner` | the JSON scanner |

mod body;
mod event_stream;
mod members;
mod scanner;

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

pub use self::body::UsageBody;
use self::{
    body::{Format, Meter},
    members::Members,
};
use super::CostUsed;

/// Reads the usage in JSON responses and reports it as the cost of the request.
///
/// Place it *below* a rate-limit layer that has a [cost function](super::RateLimitRetryLayerBuilder::cost) or
/// [`report_costs`](super::RateLimitRetryLayerBuilder::report_costs). The body passes through unchanged; data that is
/// not
/// [`Bytes`](bytes::Bytes) is copied into it.
///
/// | members | units |
/// |---|---|
/// | `usage.total_tokens`, else the sum of the two below | `tokens` |
/// | `usage.prompt_tokens` or `usage.input_tokens`, with `cache_creation_input_tokens` | `input-tokens` |
/// | `usage.completion_tokens` or `usage.output_tokens` | `output-tokens` |
/// | the same in `message.usage` and `response.usage` | the same |
/// | `extensions.cost.actualQueryCost` | `points`; 0 for a query that Shopify has throttled |
///
/// `extensions.cost.throttleStatus` announces the quota `points`.
///
/// A response is read if its status is 2xx, its type is JSON, JSON lines or `text/event-stream`, and it is not
/// compressed: place a decompression layer below this one. If a member occurs repeatedly, the last value counts,
/// because streams report running totals. Values other than numbers from 0 to 2⁵³ are ignored.
///
/// A quota that bodies announce (`points`) counts a request until its body has ended or is dropped: read a body to its end
/// before you send the next request that needs the same quota.
///
/// The cost is reported when the body has ended. If it fails or is dropped before, the cost is reported only if the
/// final usage has arrived; otherwise the estimate is charged, because the server may have counted all of it.
///
/// # Examples
///
/// An API that reports its cost in a member of its own:
///
/// ```
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::ReadUsageLayer};
///
/// let layers = tower::ServiceBuilder::new()
///     .layer(RateLimitRetryLayer::builder().report_costs(true).build())
///     .layer(ReadUsageLayer::new().pointer("/meta/credits", "credits"));
/// # drop(layers);
/// ```
#[doc(alias("OpenAI", "Anthropic", "LLM", "tokens per minute", "TPM"))]
#[derive(Clone, Debug)]
pub struct ReadUsageLayer {
    /// The members to read. Shared by all bodies that are being read.
    members: Arc<Members>,
}

impl ReadUsageLayer {
    /// Creates a layer that reads the members in the table above.
    #[must_use]
    pub fn new() -> Self {
        Self {
            members: Arc::new(Members::known()),
        }
    }

    /// Adds a member to read, by its JSON pointer (RFC 6901), and the unit that it counts. Default: none besides the
    /// table above. Can be called repeatedly, for up to 32 members with paths of at most 16 keys; others are ignored.
    ///
    /// A number that is not whole is rounded up.
    #[must_use]
    pub fn pointer(mut self, pointer: &str, unit: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.members).add(pointer, unit.into());
        self
    }
}

impl Default for ReadUsageLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ReadUsageLayer {
    type Service = ReadUsage<S>;

    fn layer(&self, inner: S) -> ReadUsage<S> {
        ReadUsage {
            inner,
            members: Arc::clone(&self.members),
        }
    }
}

/// The service of a [`ReadUsageLayer`].
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::{RateLimitRetry, ReadUsage};
///
/// /// A client of a language model.
/// struct Model<C> {
///     http: RateLimitRetry<ReadUsage<C>>,
/// }
/// # let _: Option<Model<()>> = None;
/// ```
#[derive(Clone, Debug)]
pub struct ReadUsage<S> {
    /// The service below.
    inner: S,
    /// The members to read.
    members: Arc<Members>,
}

impl<S, B, RB> Service<Request<B>> for ReadUsage<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    RB: Body,
{
    type Response = Response<UsageBody<RB>>;
    type Error = S::Error;
    type Future = ReadUsageFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Taken out: a clone in the request's extensions could outlive the body.
        let cost_used = CostUsed::take(&mut request);
        ReadUsageFuture {
            future: self.inner.call(request),
            measurement: cost_used.map(|cost_used| (cost_used, Arc::clone(&self.members))),
        }
    }
}

pin_project! {
    /// The future of a [`ReadUsage`]'s response.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels this request only. The estimate of its cost stays charged.
    ///
    /// # Examples
    ///
    /// Naming the future in a service that returns it:
    ///
    /// ```
    /// use http::Request;
    /// use tower::Service;
    /// use tower_m2m::rate_limit_retry::{ReadUsage, ReadUsageFuture};
    ///
    /// fn send<S, RB>(client: &mut ReadUsage<S>) -> ReadUsageFuture<S::Future>
    /// where
    ///     S: Service<Request<()>, Response = http::Response<RB>>,
    ///     RB: http_body::Body,
    /// {
    ///     client.call(Request::new(()))
    /// }
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct ReadUsageFuture<F> {
        #[pin]
        future: F,
        // The handle and the members to read. `None` if no layer above tracks costs, and once the response has arrived.
        measurement: Option<(CostUsed, Arc<Members>)>,
    }
}

impl<F, E, RB> Future for ReadUsageFuture<F>
where
    F: Future<Output = Result<Response<RB>, E>>,
    RB: Body,
{
    type Output = Result<Response<UsageBody<RB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.future.poll(cx));
        // Also taken on an error: the handle must not outlive the attempt.
        let measurement = this.measurement.take();
        let response = outcome?;
        let format = if response.status().is_success() {
            format(response.headers())
        } else {
            None
        };
        let meter = measurement
            .zip(format)
            .map(|((cost_used, members), format)| Box::new(Meter::new(cost_used, members, format)));
        Poll::Ready(Ok(response.map(|body| UsageBody::new(body, meter))))
    }
}

impl<F> fmt::Debug for ReadUsageFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadUsageFuture").finish_non_exhaustive()
    }
}

/// Returns how the body is read. `None` if its type does not contain JSON, or if it is compressed.
fn format(headers: &HeaderMap) -> Option<Format> {
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return None;
    }
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = content_type.split(';').next()?.trim();
    let essence = essence.to_ascii_lowercase();
    match &*essence {
        "text/event-stream" => Some(Format::EventStream),
        "application/x-ndjson" | "application/jsonl" | "application/json-lines" => {
            Some(Format::Lines)
        }
        "application/json" => Some(Format::Document),
        other if other.ends_with("+json") => Some(Format::Document),
        _ => None,
    }
}
