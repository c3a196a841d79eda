//! `azure_core`: the policy of its pipeline that authorizes requests. Its cache is the policy's own.

use std::{sync::Arc, time::Duration};

use azure_core::{
    credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions},
    http::{
        AsyncRawResponse, Context, Method, Request, StatusCode, Url,
        headers::Headers,
        policies::{Policy, PolicyResult, auth::BearerTokenAuthorizationPolicy},
    },
    time::OffsetDateTime,
};

use super::{AUTHORIZATION, Client, Contestant};
use crate::inner::{Sent, token};

#[derive(Debug)]
struct Credential;

#[async_trait::async_trait]
impl TokenCredential for Credential {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let until = OffsetDateTime::now_utc() + Duration::from_secs(24 * 3600);
        Ok(AccessToken::new(Secret::new(token()), until))
    }
}

/// The end of the pipeline, which responds immediately.
#[derive(Debug)]
struct Answering;

#[async_trait::async_trait]
impl Policy for Answering {
    async fn send(&self, _: &Context, _: &mut Request, _: &[Arc<dyn Policy>]) -> PolicyResult {
        let empty = azure_core::Bytes::new();
        Ok(AsyncRawResponse::from_bytes(
            StatusCode::Ok,
            Headers::new(),
            empty,
        ))
    }
}

/// A pipeline, and the URL of its requests.
#[derive(Clone)]
struct Pipeline {
    policies: Arc<[Arc<dyn Policy>]>,
    url: Url,
}

impl Client for Pipeline {
    async fn send(&mut self, request: Sent) {
        let mut own = Request::new(self.url.clone(), Method::Post);
        for (name, value) in request.headers() {
            let (name, value) = (
                name.as_str().to_owned(),
                value.to_str().expect("text").to_owned(),
            );
            own.insert_header(name, value);
        }
        let answer = self.policies[0]
            .send(&Context::new(), &mut own, &self.policies[1..])
            .await;
        assert!(answer.expect("a response").status().is_success());
    }
}

pub fn contestants() -> Vec<Contestant> {
    let url: Url = "https://api.example.com/v1/orders?expand=lines"
        .parse()
        .expect("a URL");
    let policy = BearerTokenAuthorizationPolicy::new(
        Arc::new(Credential),
        ["https://api.example.com/.default"],
    );
    let pipeline = |policies: Vec<Arc<dyn Policy>>| Pipeline {
        policies: policies.into(),
        url: url.clone(),
    };
    vec![
        Contestant::new(BARE, BARE, pipeline(vec![Arc::new(Answering)])).above(BARE),
        Contestant::new(
            "azure_core BearerTokenAuthorizationPolicy",
            AUTHORIZATION,
            pipeline(vec![Arc::new(policy), Arc::new(Answering)]),
        )
        .above(BARE),
    ]
}

const BARE: &str = "bare pipeline of azure_core";
