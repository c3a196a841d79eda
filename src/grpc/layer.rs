//! The layer and its settings.

use std::time::Duration;

use tower_layer::Layer;

use super::{GrpcStatus, service::Settings};

/// Turns rejections in `grpc-status` into a 401 or a 429. Place it *below* the other layers of this crate, right above
/// the channel.
///
/// Inspects only responses with status 200 and a gRPC content type. See the [module](super) for the mapping.
///
/// Waiting for trailers needs a tokio runtime with timers. Without a runtime, only the head is inspected.
///
/// | setting | default | raise or set it if |
/// |---|---|---|
/// | [`max_time`](Self::max_time) | 50 ms | rejections arrive in trailers that are slower than that |
/// | [`any_exhaustion`](Self::any_exhaustion) | `false` | the server throttles without announcing a wait |
///
/// At most the first frame of a response body is read ahead.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::grpc::GrpcStatusLayer;
///
/// let layer = GrpcStatusLayer::new().max_time(Duration::from_millis(20));
/// # drop(layer);
/// ```
#[doc(alias("tonic", "RESOURCE_EXHAUSTED"))]
#[derive(Clone, Copy, Debug)]
pub struct GrpcStatusLayer {
    settings: Settings,
}

impl GrpcStatusLayer {
    /// Creates a layer with all defaults.
    #[must_use]
    pub const fn new() -> Self {
        let settings = Settings {
            max_time: Duration::from_millis(50),
            any_exhaustion: false,
        };
        Self { settings }
    }

    /// Sets the maximum time to wait for the first message or the trailers if the response head has no `grpc-status`.
    /// After it, the response is passed on unchanged. Zero: only what arrived with the head is inspected. Default: 50 ms.
    ///
    /// A call whose response arrives at once is not delayed. A call whose first message arrives late, such as a
    /// subscription, starts later by up to this time.
    #[must_use]
    pub const fn max_time(mut self, time: Duration) -> Self {
        self.settings.max_time = time;
        self
    }

    /// Sets whether `RESOURCE_EXHAUSTED` without a wait is a 429, too. Default: `false`.
    ///
    /// If set, a message that is too large is retried in vain, with the back-off of the layers above, until their
    /// number of retries is reached.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::grpc::GrpcStatusLayer;
    ///
    /// let layer = GrpcStatusLayer::new().any_exhaustion(true);
    /// # drop(layer);
    /// ```
    #[must_use]
    pub const fn any_exhaustion(mut self, any: bool) -> Self {
        self.settings.any_exhaustion = any;
        self
    }
}

impl Default for GrpcStatusLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for GrpcStatusLayer {
    type Service = GrpcStatus<S>;

    fn layer(&self, inner: S) -> GrpcStatus<S> {
        GrpcStatus::new(inner, self.settings)
    }
}
