//! The layers behind `reqwest-middleware`, for programs that already use it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use compose::{credentials, issuer, limits};
use http::{Extensions, StatusCode};
use reqwest::{Client, Request, Response};
use reqwest_middleware::{ClientBuilder, Error, Middleware, Next, Result};
use tower::{Layer, ServiceExt};
use tower_m2m::{
    M2mLayer,
    client_credentials::TokenError,
    clients::ReqwestService,
    stack::M2m,
    test_util::{Api, ApiFault},
};

/// As in the guide: the last of the middlewares, which sends through a client of its own.
struct Stack(M2m<ReqwestService>);

#[async_trait::async_trait]
impl Middleware for Stack {
    async fn handle(&self, request: Request, _: &mut Extensions, _: Next<'_>) -> Result<Response> {
        let request = http::Request::try_from(request)?;
        let response = self.0.clone().oneshot(request).await;
        let response =
            response.map_err(|error| Error::Middleware(anyhow::Error::from_boxed(error)))?;
        Ok(response.into())
    }
}

/// A middleware of another crate.
struct Count(Arc<AtomicUsize>);

#[async_trait::async_trait]
impl Middleware for Count {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        self.0.fetch_add(1, SeqCst);
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn the_stack_is_the_last_middleware() {
    let issuer = issuer().await;
    let api = Api::builder()
        .tokens(issuer.tokens())
        .start()
        .await
        .unwrap();
    let both = M2mLayer::new(limits(), credentials(&issuer, &api.origin()).build());
    let http = ReqwestService::new(Client::builder()).unwrap();
    let calls = Arc::<AtomicUsize>::default();
    let client = ClientBuilder::new(Client::new())
        .with(Count(Arc::clone(&calls)))
        .with(Stack(both.layer(http)))
        .build();

    let first = client
        .post(api.url())
        .body("ten bytes.")
        .send()
        .await
        .unwrap();
    issuer.revoke_all();
    api.next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 0));
    let second = client
        .post(api.url())
        .body("ten bytes.")
        .send()
        .await
        .unwrap();

    assert_eq!(first.text().await.unwrap(), r#"{"ok":true,"received":10}"#);
    assert_eq!(second.text().await.unwrap(), r#"{"ok":true,"received":10}"#);
    assert_eq!(calls.load(SeqCst), 2);
    assert_eq!(api.stats().requests, 4);
    assert_eq!(issuer.stats().issued, 2);
}

#[tokio::test]
async fn errors_of_the_stack_are_preserved() {
    let issuer = issuer().await;
    let both = M2mLayer::new(
        limits(),
        credentials(&issuer, "https://api.example").build(),
    );
    let http = ReqwestService::new(Client::builder()).unwrap();
    let client = ClientBuilder::new(Client::new())
        .with(Stack(both.layer(http)))
        .build();

    let error = client
        .get("https://elsewhere.example/")
        .send()
        .await
        .unwrap_err();

    let Error::Middleware(error) = error else {
        panic!("an error of reqwest's: {error}");
    };
    assert!(error.downcast_ref::<TokenError>().is_none());
    assert!(error.to_string().contains("elsewhere.example"), "{error}");
}
