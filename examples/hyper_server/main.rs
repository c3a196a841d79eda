//! cargo run --example hyper_server
//!
//! The layers in a server without axum: hyper, with a tower stack as its service. The server calls an API, with an issuer
//! and an API in the process.

mod server;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, sync::oneshot};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, M2mLayer, Origin, RateLimitRetryLayer,
    TokenEndpoint,
    test_util::{Api, ApiFault, Issuer},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let issuer = Issuer::builder().client("server", "secret").start().await?;
    let api = Api::builder().tokens(issuer.tokens()).start().await?;
    let upstream: Origin = api.origin().parse()?;
    let auth = ClientAuth::basic("server", "secret");
    let endpoint = TokenEndpoint::new(issuer.token_url().parse()?, auth);
    let both = M2mLayer::new(
        RateLimitRetryLayer::builder()
            .max_wait(Duration::from_secs(10))
            .build(),
        ClientCredentialsLayer::builder(endpoint, upstream.clone()).build(),
    );

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/orders", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server::serve(
        listener,
        server::stack(both, &upstream),
        async { drop(stopped.await) },
    ));

    let client = Client::builder(TokioExecutor::new()).build_http();
    for _ in 0..100 {
        let response = get(&client, &url).await?;
        assert_eq!(response.status(), StatusCode::OK);
    }
    println!("100 requests, {} token request", issuer.stats().requests);

    api.next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 60));
    println!(
        "response to an upstream 429: {}",
        render(&get(&client, &url).await?)
    );
    println!(
        "response to the next request: {}",
        render(&get(&client, &url).await?)
    );
    println!("{} requests reached the upstream", api.stats().requests);

    drop((stop, client));
    serving.await??;
    println!("ended");
    Ok(())
}

async fn get(
    client: &Client<HttpConnector, Empty<Bytes>>,
    url: &str,
) -> Result<Response<Incoming>, BoxError> {
    Ok(client
        .request(Request::get(url).body(Empty::new())?)
        .await?)
}

fn render<B>(response: &Response<B>) -> String {
    let wait = response.headers().get(RETRY_AFTER);
    let wait = wait
        .and_then(|value| value.to_str().ok())
        .unwrap_or("nothing");
    format!("{}, Retry-After: {wait}", response.status())
}
