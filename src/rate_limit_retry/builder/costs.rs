//! Settings of costs.

use std::sync::Arc;

use http::request::Parts;

use super::{super::Cost, RateLimitRetryLayerBuilder};

impl RateLimitRetryLayerBuilder {
    /// Sets the function that estimates what a request costs, for APIs that count other units than requests: tokens of
    /// a language model, points of a query. Default: each request costs one request, and the amounts of other units are
    /// learned from how the announced quotas fall.
    ///
    /// The function is called once per call and receives the head of the request. Each attempt reserves the estimate.
    /// If the cost depends on the body, the caller puts it into the request's extensions, as in the example.
    ///
    /// The estimate is reserved until the response has arrived. Then the actual cost is charged, if a layer below
    /// reports it: by [`CostUsed::set`](super::super::CostUsed::set), also after a streamed response has ended, or as a
    /// [`Cost`] in the response's extensions. [`ReadUsageLayer`](super::super::ReadUsageLayer) reports the usage in
    /// JSON bodies. Without a report, the estimate is charged. A request that is throttled or not sent is charged
    /// nothing.
    ///
    /// A request whose estimate exceeds an announced limit fails at once with
    /// [`CostTooHigh`](super::super::CostTooHigh). With a cost function, no request takes the
    /// fast path.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Request;
    /// use tower_m2m::{
    ///     RateLimitRetryLayer,
    ///     rate_limit_retry::{Cost, ReadUsageLayer},
    /// };
    ///
    /// // The prompt and `max_tokens` are in the body: the caller estimates them when it creates
    /// // the request.
    /// let request = Request::post("https://llm.example.com/v1/chat/completions")
    ///     .extension(Cost::new().with("tokens", 1_200))
    ///     .body(());
    ///
    /// let limits = RateLimitRetryLayer::builder()
    ///     .cost(|head| head.extensions.get::<Cost>().cloned().unwrap_or_default())
    ///     .build();
    /// let layers = tower::ServiceBuilder::new()
    ///     .layer(limits)
    ///     .layer(ReadUsageLayer::new());
    /// # drop((request, layers));
    /// ```
    pub fn cost(mut self, cost: impl Fn(&Parts) -> Cost + Send + Sync + 'static) -> Self {
        self.set_once.record("cost");
        self.costs.function = Some(Arc::new(cost));
        self
    }

    /// Sets whether layers below can report what requests cost even without a [cost function](Self::cost). Default:
    /// `false`.
    ///
    /// If so, each request has a [`CostUsed`](super::super::CostUsed) in its extensions, as with a cost function, and
    /// does not take the fast path.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::ReadUsageLayer};
    ///
    /// let layers = tower::ServiceBuilder::new()
    ///     .layer(RateLimitRetryLayer::builder().report_costs(true).build())
    ///     .layer(ReadUsageLayer::new());
    /// # drop(layers);
    /// ```
    pub fn report_costs(mut self, report: bool) -> Self {
        self.costs.report = report;
        self
    }
}
