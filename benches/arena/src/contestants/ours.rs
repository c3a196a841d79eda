//! `RateLimitRetryLayer` with its defaults, except that the arena does not limit how long requests wait.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, RateLimitRetryLayer,
    rate_limit_retry::{Cost, CostUsed, RateLimitRetryLayerBuilder, StoredQuotas},
};

use super::{Client, JOB, Sending, Setup, read};
use crate::{job::Job, world::Reply};

struct Ours<S>(S);

impl<S> Client for Ours<S>
where
    S: tower::Service<Request<Empty<Bytes>>, Response = Reply, Error = BoxError>
        + Clone
        + Send
        + Sync,
    S::Future: Send,
{
    fn job<'a>(&'a self, job: &'a Job) -> Sending<'a> {
        Box::pin(async {
            let mut request = Request::get(format!("https://api.example.com{}", job.path))
                .header(JOB, job.number)
                .body(Empty::new())
                .expect("a request");
            // Read by the cost function, if there is one.
            request.extensions_mut().insert(job.clone());
            let Ok(mut reply) = self.0.clone().oneshot(request).await else {
                return false;
            };
            let accepted = reply.status().is_success();
            let handle = reply.extensions_mut().remove::<CostUsed>();
            read(reply.into_body()).await;
            if let Some(handle) = handle {
                handle.set(Cost::new().with("tokens", job.cost));
            }
            accepted
        })
    }
}

pub fn client(setup: Setup) -> Arc<dyn Client> {
    build(setup, RateLimitRetryLayer::builder())
}

/// The same with a store, in which all processes share what they know.
pub fn shared(setup: Setup) -> Arc<dyn Client> {
    let quotas = StoredQuotas::new("arena", setup.world.store.clone());
    build(setup, RateLimitRetryLayer::builder().store(quotas))
}

fn build(setup: Setup, settings: RateLimitRetryLayerBuilder) -> Arc<dyn Client> {
    let layer = settings
        .max_wait(Duration::from_secs(4 * 3600))
        // For the brown-out; the default of 5 is enough for every other scenario.
        .max_retries(50)
        .clock(setup.clock)
        .seed(setup.seed)
        .report_costs(true)
        .build();
    let service = service_fn(move |mut request: Request<Empty<Bytes>>| {
        let setup = setup.clone();
        async move {
            let cost_used = CostUsed::take(&mut request);
            let job = setup.job_of(request.headers());
            let mut reply = setup.request(job).await;
            // The caller reads the body, which contains the cost of the request.
            if let Some(cost_used) = cost_used {
                reply.extensions_mut().insert(cost_used);
            }
            Ok::<_, BoxError>(reply)
        }
    });
    Arc::new(Ours(layer.layer(service)))
}
