//! The layer.

use std::time::Duration;

use tower_layer::Layer;

use super::{GrpcStatus, service::Settings};

/// Makes a refusal in `grpc-status` a 401 or a 429. Goes *below* the other layers of this crate, right above the channel.
///
/// Only answers with status 200 and a content type of gRPC are looked at. See the [module](super) for what becomes what.
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
#[derive(Clone, Copy, Debug)]
pub struct GrpcStatusLayer {
    settings: Settings,
}

impl GrpcStatusLayer {
    /// A layer with all defaults.
    #[must_use]
    pub const fn new() -> Self {
        let settings = Settings {
            max_time: Duration::from_millis(50),
            any_exhaustion: false,
        };
        Self { settings }
    }

    /// For how long the first message or the trailers are waited for at most, before an answer whose head has no status is
    /// passed on as it is. Zero: only what has come with the head. Default: 50 ms.
    ///
    /// A call that is answered at once does not notice. One whose first message comes late, such as a subscription, begins
    /// so much later.
    #[must_use]
    pub const fn max_time(mut self, time: Duration) -> Self {
        self.settings.max_time = time;
        self
    }

    /// Whether `RESOURCE_EXHAUSTED` is a 429 without a wait, too. Default: `false`.
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
