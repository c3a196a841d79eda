//! The handle by which a layer below reports the cost of a request.

use std::{fmt, sync::Arc};

use http::Request;

use super::{
    Cost,
    gate::{CostReservation, Permit},
    headers::Limit,
    limiter::SharedLimiter,
};

/// A handle by which a layer below the rate-limit layer reports what a request has cost.
///
/// The rate-limit layer puts one into the extensions of each request, if a
/// [cost function](super::RateLimitRetryLayerBuilder::cost) or
/// [`report_costs`](super::RateLimitRetryLayerBuilder::report_costs) is set. The cost may be known only when the body
/// of the response has ended. The reservation of the request stays until its response has arrived and all clones of the
/// handle are dropped. Then the last value passed to [`set`](Self::set) is charged; without one, the estimate is.
///
/// A request that is throttled, not sent or answered from a cache settles at once, without waiting for the handles.
/// Cheap to clone.
///
/// # Examples
///
/// A layer that takes the cost from a field of the response:
///
/// ```
/// use http::{Request, Response};
/// use tower_m2m::{
///     BoxError,
///     rate_limit_retry::{Cost, CostUsed},
/// };
///
/// async fn call(
///     mut request: Request<String>,
///     send: impl AsyncFnOnce(Request<String>) -> Result<Response<String>, BoxError>,
/// ) -> Result<Response<String>, BoxError> {
///     // Taken out of the request: a clone in there may live longer than the response.
///     let cost_used = CostUsed::take(&mut request);
///     let response = send(request).await?;
///     let credits = response.headers().get("x-credits-used");
///     let credits = credits.and_then(|value| value.to_str().ok()?.parse().ok());
///     if let Some((cost_used, credits)) = cost_used.zip(credits) {
///         cost_used.set(Cost::new().with("credits", credits));
///     }
///     Ok(response)
/// }
/// # drop(call(Request::new(String::new()), async |_| Ok(Response::new(String::new()))));
/// ```
#[derive(Clone)]
pub struct CostUsed {
    /// What is reserved for the request.
    reservation: Arc<CostReservation>,
    /// The layer's limiter, which has the clock.
    limiter: SharedLimiter,
}

impl CostUsed {
    /// Takes the handle out of a request's extensions. `None` if the rate-limit layer above does not track costs, or if
    /// there is no such layer.
    #[must_use]
    pub fn take<B>(request: &mut Request<B>) -> Option<Self> {
        request.extensions_mut().remove()
    }

    /// Reports what the request has cost. Replaces an earlier report.
    ///
    /// Units that `used` does not name stay charged as estimated. Has no effect once the request is settled.
    pub fn set(&self, used: Cost) {
        self.reservation.report(used);
    }

    /// Reports a quota that the body of the response announces, for APIs that announce what remains in bodies. It
    /// applies at once, like the fields of a response.
    ///
    /// The quota counts the unit that is its name; see [`Cost`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::rate_limit_retry::{
    ///     CostUsed,
    ///     headers::{Limit, Unit},
    /// };
    ///
    /// /// Announces what a body contains: `points` of 1,000 remain, and 50 are refilled per second.
    /// fn announce(cost_used: &CostUsed, points: u64) {
    ///     let mut limit = Limit::default();
    ///     limit.name = Some("points".to_owned());
    ///     limit.unit = Unit::Other;
    ///     limit.limit = Some(1_000);
    ///     limit.remaining = Some(points);
    ///     limit.refill = Some(50.0);
    ///     cost_used.announce(limit);
    /// }
    /// # let _ = announce;
    /// ```
    pub fn announce(&self, mut limit: Limit) {
        limit.truncate_name();
        self.reservation.announce(&limit, self.limiter.now());
    }

    /// Returns what was reserved for the request.
    #[must_use]
    pub fn estimate(&self) -> &Cost {
        self.reservation.cost()
    }
}

impl Permit {
    /// Puts the handle into the extensions of the permit's request, if costs are tracked.
    #[inline]
    pub(crate) fn attach<B>(&self, limiter: &SharedLimiter, request: &mut Request<B>) {
        if let Some(reservation) = self.reservation() {
            request.extensions_mut().insert(CostUsed {
                reservation: Arc::clone(reservation),
                limiter: Arc::clone(limiter),
            });
        }
    }
}

/// Shows the estimate.
impl fmt::Debug for CostUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CostUsed")
            .field("estimate", self.estimate())
            .finish_non_exhaustive()
    }
}
