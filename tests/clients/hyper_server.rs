//! The layers in a server of hyper's, without axum: what the example `hyper_server` is made of.

#[path = "../../examples/hyper_server/server.rs"]
mod server;

use std::{io, time::Duration};

use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tower_m2m::{
    M2mLayer, RateLimitRetryLayer,
    test_util::{ApiFault, Fault},
};

use crate::world::{Chunks, DATA, World};

/// A running server, in front of a [`World`].
struct Server {
    url: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    async fn start(world: &World) -> Self {
        let limits = RateLimitRetryLayer::builder().max_wait(Duration::from_secs(5));
        let both = M2mLayer::new(limits.build(), world.credentials());
        let stack = server::stack(both, &world.origin.parse().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/orders", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        Self {
            url,
            stop,
            task: tokio::spawn(server::serve(listener, stack, stopped)),
        }
    }

    /// Sends a stream, with a credential of the caller's own, over a connection of its own.
    fn send(&self, http2: bool) -> impl Future<Output = Response<Incoming>> + use<> {
        let mut client = Client::builder(TokioExecutor::new());
        let client = client.http2_only(http2).build_http();
        let request = Request::put(&self.url)
            .header(header::AUTHORIZATION, "Bearer the-callers-own")
            .header(header::COOKIE, "session=the-callers-own");
        let request = request.body(Chunks::new()).unwrap();
        async move { client.request(request).await.unwrap() }
    }
}

#[tokio::test]
async fn a_server_without_axum_sends_through_the_layers() {
    for http2 in [false, true] {
        let world = World::start().await;
        let server = Server::start(&world).await;

        let first = server.send(http2).await;
        world.issuer.revoke_all();
        let second = server.send(http2).await;

        for response in [first, second] {
            assert_eq!(response.status(), StatusCode::OK);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("{{\"ok\":true,\"received\":{}}}", DATA.len()));
        }
        // The second was sent twice.
        assert_eq!(world.lengths(), [DATA.len(); 3]);
        assert_eq!(world.issuer.stats().issued, 2);
    }
}

#[tokio::test]
async fn credential_and_quota_errors_do_not_reach_the_caller() {
    let world = World::start().await;
    let server = Server::start(&world).await;

    world.api.next(ApiFault::Unauthorized);
    world.api.next(ApiFault::Unauthorized);
    let refused = server.send(false).await;
    world
        .api
        .next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 60));
    let limited = server.send(false).await;
    let held = server.send(false).await;

    assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
    assert!(!refused.headers().contains_key(header::WWW_AUTHENTICATE));
    for response in [limited, held] {
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!((59..=66).contains(&wait(&response)));
    }
    // The last one was not sent.
    assert_eq!(world.api.stats().requests, 3);
}

#[tokio::test]
async fn without_a_token_the_server_returns_its_own_error() {
    let world = World::start().await;
    let server = Server::start(&world).await;

    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    world
        .issuer
        .always(Some(Fault::retry_after(unavailable, 40)));
    let response = server.send(false).await;

    assert_eq!(response.status(), unavailable);
    assert!((30..=60).contains(&wait(&response)));
    assert_eq!(world.api.stats().requests, 0);
}

#[tokio::test]
async fn shutdown_completes_requests_in_flight() {
    let world = World::start().await;
    let server = Server::start(&world).await;
    world.api.next(ApiFault::Delay(Duration::from_millis(200)));

    let under_way = tokio::spawn(server.send(false));
    while world.issuer.stats().issued == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop.send(()).unwrap();
    server.task.await.unwrap().unwrap();

    assert_eq!(under_way.await.unwrap().status(), StatusCode::OK);
}

fn wait<B>(response: &Response<B>) -> u64 {
    let value = response.headers()[header::RETRY_AFTER].to_str().unwrap();
    value.parse().unwrap()
}
