//! How a layer below reports what a request has cost.

use std::{fmt, sync::Arc};

use http::Request;

use super::{
    Cost,
    gate::{CostReservation, Permit},
    headers::Limit,
    limiter::SharedLimiter,
};

/// Reports what a request has cost. The rate-limit layer puts one into the extensions of each request, if it has a
/// [cost function](super::RateLimitRetryLayerBuilder::cost) or
/// [`report_costs`](super::RateLimitRetryLayerBuilder::report_costs) is set.
///
/// For layers below the rate-limit layer that learn the cost from a response, which may take until its body has ended.
/// The reservation of the request stays until its response has arrived and all clones of the handle are dropped. Then the
/// last value passed to [`set`](Self::set) replaces it; without one, the estimate stays charged.
///
/// A request that was throttled or not sent settles at once, without regard to handles. Cheap to clone.
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
    /// Takes the handle out of a request's extensions. `None` if the rate-limit layer above has no costs, or if there is
    /// no such layer.
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

    /// Reports a quota that the body of the response announces, as the fields of a response do. It applies at once.
    ///
    /// For APIs whose bodies say what remains. Requests reserve the amount of the unit that has the quota's name.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::rate_limit_retry::{
    ///     CostUsed,
    ///     headers::{Limit, Unit},
    /// };
    ///
    /// /// What the body says: points that are left of 1,000, of which 50 are refilled per second.
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
    /// Puts the handle into the extensions of the permit's request, if what it costs is tracked.
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
