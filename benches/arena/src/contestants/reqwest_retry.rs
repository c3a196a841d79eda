//! `reqwest-retry` with its defaults, except for 20 retries. A last middleware answers in place of the network.
//!
//! Its jitter cannot be seeded, so that its figures differ from run to run.

use std::sync::Arc;

use bytes::Bytes;
use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next, Result};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};

use super::{Client, JOB, Sending, Setup};
use crate::job::Job;

struct Reqwest(ClientWithMiddleware);

impl Client for Reqwest {
    fn job<'a>(&'a self, job: &'a Job) -> Sending<'a> {
        Box::pin(async {
            let url = format!("http://api.example.com{}", job.path);
            let request = self.0.get(url).header(JOB, job.number);
            let reply = request.send().await;
            reply.is_ok_and(|reply| reply.status().is_success())
        })
    }
}

pub fn client(setup: Setup) -> Arc<dyn Client> {
    let policy = ExponentialBackoff::builder().build_with_max_retries(20);
    let last = middleware(move |request, _, _| {
        let setup = setup.clone();
        Box::pin(async move {
            let reply = setup.exchange(setup.job_of(request.headers())).await;
            Ok(Response::from(reply.map(|()| Bytes::new())))
        })
    });
    let client = ClientBuilder::new(reqwest::Client::new())
        .with(RetryTransientMiddleware::new_with_policy(policy))
        .with(last)
        .build();
    Arc::new(Reqwest(client))
}

type Handled<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Response>> + Send + 'a>>;

/// Fixes the closure's lifetimes for type inference.
fn middleware<F>(handle: F) -> impl Middleware
where
    F: for<'a> Fn(Request, &'a mut Extensions, Next<'a>) -> Handled<'a> + Send + Sync + 'static,
{
    handle
}
