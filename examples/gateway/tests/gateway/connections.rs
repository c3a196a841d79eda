//! Connections that send nothing, or too much, are no other caller's concern.

use std::time::Duration;

use axum::{body::Body, response::Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::support::{
    KEY, Upstream, admin, client, gateway, gateway_to, issuer, metric, raw, request, send, tenant,
};

#[tokio::test]
async fn an_incomplete_request_head_is_dropped_after_the_header_timeout() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let gateway = gateway("header_timeout = 1", &tenants).await;
    // Half a head, half a preface of HTTP/2, half a frame, and nothing at all.
    let halves: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nhost: a.example\r\nx-half: ",
        b"PRI * HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x20\x01\x04\0\0\0\x01\x82",
        b"",
    ];
    for half in halves {
        for listener in [gateway.address(), gateway.admin_address()] {
            let mut stream = TcpStream::connect(listener).await.unwrap();
            stream.write_all(half).await.unwrap();

            // Returns once the gateway has closed the connection.
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;

            assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
        }
    }

    let dropped = metric(
        &gateway,
        r#"gateway_connections_dropped_total{reason="header_timeout"}"#,
    );
    assert_eq!(dropped.await, 4.0);
}

#[tokio::test]
async fn an_incomplete_head_on_a_kept_alive_connection_is_dropped_after_the_idle_timeout() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let gateway = gateway("idle_timeout = 1", &tenants).await;
    let half = "GET / HTTP/1.1\r\nhost: a.example\r\nx-half: ";

    let answer = raw(
        &gateway,
        &format!("GET / HTTP/1.1\r\nhost: a\r\n\r\n{half}"),
    )
    .await;

    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test]
async fn connections_of_unknown_callers_are_closed() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let settings = "header_timeout = 1\nidle_timeout = 600\nwrite_timeout = 600";
    let gateway = gateway(settings, &tenant("acme", KEY, &upstream.origin, &issuer)).await;
    // HTTP/2 with a window of 0: the answer's body cannot be sent, and the stream does not end.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
    let headers = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";

    let by_http1 = raw(&gateway, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let by_http2 = raw(&gateway, [&preface[..], headers].concat()).await;

    assert!(by_http1.starts_with("HTTP/1.1 401"), "{by_http1}");
    assert!(!by_http2.contains("not known"), "{by_http2}");
    let dropped = r#"gateway_connections_dropped_total{reason="not_closed"}"#;
    assert_eq!(metric(&gateway, dropped).await, 1.0);
    assert_eq!(metric(&gateway, "gateway_unknown_callers_total").await, 2.0);
    // Nor does a known caller lose one, because it has sent a wrong key once.
    let wrong = "GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer wrong\r\n\r\n";
    let right = format!("GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n");
    let both = format!("{right}\r\n{wrong}{right}connection: close\r\n\r\n");
    let answers = raw(&gateway, both).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
}

#[tokio::test]
async fn one_peer_cannot_use_up_all_connections() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let gateway = gateway("max_connections_per_peer = 3", &tenants).await;
    let mut halves = Vec::new();
    for _ in 0..10 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(gateway.address()).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n").await;
        halves.push(stream);
    }

    let response = send(&gateway, "GET", "/").await;

    assert_eq!(response.status, 200);
    let reason = r#"gateway_connections_dropped_total{reason="peer_limit"}"#;
    assert_eq!(metric(&gateway, reason).await, 7.0);
}

#[tokio::test]
async fn operators_are_served_when_caller_connections_are_exhausted() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let gateway = gateway("max_connections = 4", &tenants).await;
    let mut halves = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n").await;
        halves.push(stream);
    }

    assert_eq!(admin(&gateway, "/livez").await.status, 200);
    assert_eq!(metric(&gateway, "gateway_connections").await, 4.0);
    let reason = r#"gateway_connections_dropped_total{reason="total_limit"}"#;
    assert_eq!(metric(&gateway, reason).await, 36.0);
    drop(halves);
    while metric(&gateway, "gateway_connections").await > 0.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    assert_eq!(send(&gateway, "GET", "/").await.status, 200);
}

#[tokio::test]
async fn a_caller_that_stops_reading_is_disconnected() {
    let issuer = issuer().await;
    // More than the buffers of all sockets on the way.
    let upstream = Upstream::start(|_| async { Response::new(vec![0; 32 << 20].into()) }).await;
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let gateway = gateway("write_timeout = 1", &tenants).await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let call = format!("GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n\r\n");
    stream.write_all(call.as_bytes()).await.unwrap();

    let reason = r#"gateway_connections_dropped_total{reason="write_timeout"}"#;
    while metric(&gateway, reason).await == 0.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let cut = r#"gateway_truncated_responses_total{tenant="acme",by="caller"}"#;
    assert_eq!(metric(&gateway, cut).await, 1.0);
}

#[tokio::test]
async fn one_tenant_cannot_use_up_all_requests() {
    let issuer = issuer().await;
    let slow = Upstream::start(|_| std::future::pending()).await;
    let fast = Upstream::answering(200, ("x", "y")).await;
    let tenants = tenant("slow", "caller-key-of-the-slow", &slow.origin, &issuer)
        + &tenant("fast", KEY, &fast.origin, &issuer);
    let gateway = gateway("max_requests_per_tenant = 2", &tenants).await;
    let by_slow = || {
        let call = http::Request::get(format!("http://{}/", gateway.address()))
            .header("authorization", "Bearer caller-key-of-the-slow");
        client().request(call.body(Body::empty()).unwrap())
    };
    let stuck = [tokio::spawn(by_slow()), tokio::spawn(by_slow())];
    while slow.requests().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let refused = by_slow().await.unwrap();
    let response = send(&gateway, "GET", "/").await;

    assert_eq!(
        (refused.status(), response.status),
        (503.try_into().unwrap(), 200)
    );
    assert_eq!(refused.headers()["retry-after"], "1");
    let overloaded = r#"gateway_requests_total{tenant="slow",outcome="overloaded"}"#;
    assert_eq!(metric(&gateway, overloaded).await, 1.0);
    // Their places are free again once their callers have left.
    for stuck in stuck {
        stuck.abort();
    }
    let left = r#"gateway_requests_total{tenant="slow",outcome="caller_left"}"#;
    while metric(&gateway, left).await < 2.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let admitted = tokio::time::timeout(Duration::from_millis(200), by_slow()).await;
    assert!(admitted.is_err(), "it waits for the upstream");
}

#[tokio::test]
async fn oversized_request_heads_are_rejected() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;
    let large = format!("x-large: {}\r\n", "x".repeat(100_000));
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("/{}", "x".repeat(100_000));
    for (path, fields) in [("/", &*large), ("/", &many), (&*long, "")] {
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n{fields}\r\n"
        );

        let answer = raw(&gateway, &head).await;

        let status = answer.get(..12).unwrap_or_default();
        assert!(
            ["", "HTTP/1.1 431", "HTTP/1.1 414"].contains(&status),
            "{status}"
        );
    }
    assert_eq!(upstream.requests().len(), 0);
    let request = request(&gateway, "GET", "/").body(Body::empty()).unwrap();
    assert_eq!(client().request(request).await.unwrap().status(), 200);
}
