//! Shutdown: all parts concurrently, within a time limit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, routing::post};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{KEY, Upstream, admin, gateway, issuer, send, tenant};

/// An issuer whose revocations never end: its origin, and how many there were.
async fn issuer_that_hangs_at_revocations() -> (String, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    let token = r#"{"access_token":"token","token_type":"Bearer","expires_in":300}"#;
    let json = [("content-type", "application/json")];
    let router = Router::new()
        .route("/token", post(move || async move { (json, token) }))
        .route(
            "/revoke",
            post(move || async move {
                count.fetch_add(1, Relaxed);
                std::future::pending::<()>().await;
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (origin, asked)
}

#[tokio::test]
async fn revocations_run_concurrently_within_the_timeout() {
    let (issuer, asked) = issuer_that_hangs_at_revocations().await;
    let tenants: String = (0..6)
        .map(|n| {
            format!(
                "[tenants.t{n}]\nupstream = \"http://127.0.0.1:1\"\ncaller_keys = [\"caller-key-of-tenant-{n}\"]\n\
                 [tenants.t{n}.credentials]\ntoken_url = \"{issuer}/token\"\nclient_id = \"a\"\n\
                 client_secret = \"secret\"\nrevoke_on_shutdown = \"{issuer}/revoke\"\n"
            )
        })
        .collect();
    let gateway = gateway("shutdown_timeout = 2", &tenants).await;
    loop {
        let ready = admin(&gateway, "/readyz").await.body;
        if ready.matches(r#""token_usable":true"#).count() == 6 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    // One after the other they would take 30 s.
    let ended = timeout(Duration::from_secs(10), gateway.shutdown()).await;

    assert!(ended.is_ok());
    assert_eq!(asked.load(Relaxed), 6);
}

#[tokio::test]
async fn incomplete_heads_do_not_delay_shutdown() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let settings = "shutdown_timeout = 600\nheader_timeout = 600\nidle_timeout = 600";
    let gateway = gateway(settings, &tenant("acme", KEY, &upstream.origin, &issuer)).await;
    let mut halves = Vec::new();
    for half in [
        "",
        "GET / HTTP/1.1\r\nhost: a",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        halves.push(stream);
    }
    send(&gateway, "GET", "/").await;

    let ended = timeout(Duration::from_secs(20), gateway.shutdown()).await;

    assert!(ended.is_ok());
    drop(halves);
}
