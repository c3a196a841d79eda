//! `huskarl`: its authorizer creates the headers of each request and inspects each response, as in its guide.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use huskarl::{
    authorizer::HttpAuthorizer,
    cache::{GrantTokenSource, InMemoryRefreshTokenStore, InMemoryTokenCache},
    core::{
        client_auth::ClientSecret,
        error::Error,
        http::{HttpClient, HttpResponse, Idempotency},
        platform::MaybeSendBoxFuture,
        secrets::{ProvidedSecret, SecretString},
    },
    grant::client_credentials::{ClientCredentialsGrant, ClientCredentialsGrantParameters},
};
use tower::ServiceExt;

use super::{AUTHORIZATION, Client, Contestant, issuer::document};
use crate::inner::{Inner, Plain, Sent};

/// The token endpoint, from memory.
struct Endpoint;

impl HttpClient for Endpoint {
    fn execute(
        &self,
        _: Request<Bytes>,
        _: Idempotency,
    ) -> MaybeSendBoxFuture<'_, Result<HttpResponse, Error>> {
        Box::pin(async {
            Ok(HttpResponse {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: document(),
            })
        })
    }
}

#[derive(Clone)]
struct Huskarl<S> {
    authorizer: Arc<HttpAuthorizer>,
    inner: S,
}

impl<S: Inner<Plain>> Client for Huskarl<S> {
    async fn send(&mut self, mut request: Sent) {
        let uri = request.uri().clone();
        let headers = self.authorizer.get_headers(request.method(), &uri).await;
        request.headers_mut().extend(headers.expect("a token"));
        let ready = self.inner.ready().await.expect("ready");
        let answer = ready.call(request).await.expect("a response");
        self.authorizer.process_response(&uri, answer.headers());
        assert!(answer.status().is_success());
    }
}

pub fn contestant(inner: &impl Inner<Plain>) -> Contestant {
    let endpoint = "https://issuer.example/token".parse().expect("a URL");
    let secret = ProvidedSecret::new(SecretString::new("secret"));
    let grant = ClientCredentialsGrant::builder()
        .token_endpoint(endpoint)
        .client_id("id")
        .http_client(Endpoint)
        .client_auth(ClientSecret::new(secret))
        .build();
    let source = GrantTokenSource::builder()
        .grant(grant)
        .grant_parameters(ClientCredentialsGrantParameters::builder().build())
        .refresh_store(InMemoryRefreshTokenStore::default())
        .build();
    let cache = InMemoryTokenCache::builder().source(source).build();
    let client = Huskarl {
        authorizer: Arc::new(HttpAuthorizer::builder().cache(cache).build()),
        inner: inner.clone(),
    };
    Contestant::new("huskarl, by hand", AUTHORIZATION, client)
}
