//! `reqwest-middleware` with `reqwest-retry`. A last middleware answers in place of the network.

use bytes::Bytes;
use http::{Extensions, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next, Result};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};

use super::{Client, Contestant, REQWEST_RETRY, RETRY};
use crate::{announced::Quotas, inner::Sent};

#[derive(Clone)]
struct Reqwest(ClientWithMiddleware);

impl Client for Reqwest {
    async fn send(&mut self, request: Sent) {
        let request = request.map(|_| reqwest::Body::from(Bytes::from_static(&[b'x'; 85])));
        let request = reqwest::Request::try_from(request).expect("a request");
        let answer = self.0.execute(request).await.expect("a response");
        assert!(answer.status().is_success());
    }
}

/// Announces these quotas in every response, or says nothing.
struct Answering(Option<&'static Quotas>);

#[async_trait::async_trait]
impl Middleware for Answering {
    async fn handle(
        &self,
        request: reqwest::Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> Result<reqwest::Response> {
        let mut answer = Response::new(Bytes::new());
        if let Some(quotas) = self.0 {
            let host = request.url().host_str().expect("a host");
            quotas.announce(host, answer.headers_mut());
        }
        Ok(answer.into())
    }
}

pub fn contestants(quotas: Option<&'static Quotas>) -> Vec<Contestant> {
    let policy = ExponentialBackoff::builder().build_with_max_retries(3);
    let retry = RetryTransientMiddleware::new_with_policy(policy);
    let builder = || ClientBuilder::new(reqwest::Client::new());
    let bare = builder().with(Answering(quotas)).build();
    let retried = builder().with(retry).with(Answering(quotas)).build();
    vec![
        Contestant::new(BARE, BARE, Reqwest(bare)).above(BARE),
        Contestant::new(REQWEST_RETRY, RETRY, Reqwest(retried)).above(BARE),
    ]
}

const BARE: &str = "bare client of reqwest-middleware";
