//! The combined layer on an API.

use tower::Layer;
use tower_m2m::{M2mLayer, RateLimitRetryLayer, stack::M2m};

use crate::support::{Inner, Source, layer};

pub(crate) fn stacked(source: &Source, inner: Inner) -> (M2m<Inner>, M2mLayer) {
    let layer = M2mLayer::new(
        RateLimitRetryLayer::builder().seed(7).build(),
        layer(source).build(),
    );
    (layer.layer(inner), layer)
}
