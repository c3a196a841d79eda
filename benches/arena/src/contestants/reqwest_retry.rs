//! `reqwest-retry` with its defaults, except for 20 retries. A last middleware answers in place of the network.
//!
//! Its jitter cannot be seeded, so that its figures differ from run to run.

use std::sync::Arc;

use bytes::Bytes;
use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next, Result};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};

use super::{Client, Sending, Setup};

struct Reqwest(ClientWithMiddleware);

impl Client for Reqwest {
    fn job(&self) -> Sending<'_> {
        Box::pin(async {
            let reply = self.0.get("http://api.example.com/").send().await;
            reply.is_ok_and(|reply| reply.status().is_success())
        })
    }
}

pub fn client(setup: Setup) -> Arc<dyn Client> {
    let policy = ExponentialBackoff::builder().build_with_max_retries(20);
    let last = middleware(move |_, _, _| {
        let setup = setup.clone();
        Box::pin(async move {
            let reply = setup.request().await;
            Ok(Response::from(reply.map(|_| Bytes::new())))
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
