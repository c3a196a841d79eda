//! Another layer that retries.

use std::future::{Ready, ready};

use http::{Request, Response, StatusCode};
use tower::{
    ServiceBuilder, ServiceExt,
    retry::{Policy, RetryLayer},
};
use tower_m2m::test_util::ApiFault;

use crate::world::{DATA, World, full, http1, limits};

#[tokio::test]
async fn a_retry_layer_above_retries_other_errors() {
    let world = World::start().await;
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryOnce(1)))
        .layer((limits(), world.credentials()))
        .service(http1());
    let fault = ApiFault::status(StatusCode::INTERNAL_SERVER_ERROR);
    world.api.next(fault);
    let request = Request::post(&world.origin).body(full());

    let response = client.oneshot(request.unwrap()).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(world.lengths(), [DATA.len(), DATA.len()]);
}

/// Sends again after a 500, so often.
#[derive(Clone)]
pub(crate) struct RetryOnce(pub(crate) u32);

impl<B: Clone, RB, E> Policy<Request<B>, Response<RB>, E> for RetryOnce {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        result: &mut Result<Response<RB>, E>,
    ) -> Option<Ready<()>> {
        let status = result.as_ref().ok()?.status();
        if status != StatusCode::INTERNAL_SERVER_ERROR {
            return None;
        }
        self.0 = self.0.checked_sub(1)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}
