//! Forms of requests that two servers may read differently, and floods of frames.

use http::Request;
use tokio::net::TcpStream;

use crate::support::{KEY, RawUpstream, Upstream, gateway, gateway_to, issuer, raw, send, tenant};

#[tokio::test]
async fn conflicting_body_lengths_are_rejected() {
    let issuer = issuer().await;
    let inner = format!("GET /smuggled HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n\r\n");
    let length = inner.len() + 5;
    for (fields, body) in [
        // Both lengths, in both orders and spellings.
        (
            format!("content-length: {length}\r\ntransfer-encoding: chunked"),
            format!("0\r\n\r\n{inner}"),
        ),
        (
            format!("transfer-encoding: chunked\r\ncontent-length: {length}"),
            format!("0\r\n\r\n{inner}"),
        ),
        (
            format!("transfer-encoding: xchunked\r\ncontent-length: {length}"),
            format!("0\r\n\r\n{inner}"),
        ),
        (
            format!("transfer-encoding : chunked\r\ncontent-length: {length}"),
            format!("0\r\n\r\n{inner}"),
        ),
        (
            format!("transfer-encoding: chunked, identity\r\ncontent-length: {length}"),
            format!("0\r\n\r\n{inner}"),
        ),
        (
            format!("transfer-encoding:\r\n chunked\r\ncontent-length: {length}"),
            format!("0\r\n\r\n{inner}"),
        ),
        // Two lengths.
        (
            format!("content-length: 0\r\ncontent-length: {length}"),
            format!("0\r\n\r\n{inner}"),
        ),
        (
            format!("content-length: 0, {length}"),
            format!("0\r\n\r\n{inner}"),
        ),
        ("content-length: +0".to_owned(), inner.clone()),
        ("content-length: 0x0".to_owned(), inner.clone()),
        ("content-length : 0".to_owned(), inner.clone()),
        // Two codings, and sizes that are none.
        (
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked".to_owned(),
            format!("0\r\n\r\n{inner}"),
        ),
        (
            "transfer-encoding: chunked".to_owned(),
            format!("0x5\r\nhello\r\n0\r\n\r\n{inner}"),
        ),
        (
            "transfer-encoding: chunked".to_owned(),
            format!("-1\r\n0\r\n\r\n{inner}"),
        ),
        (
            "transfer-encoding: chunked".to_owned(),
            format!("10000000000000000\r\n0\r\n\r\n{inner}"),
        ),
        // A field within a field.
        (
            "x-one: 1\rtransfer-encoding: chunked".to_owned(),
            format!("0\r\n\r\n{inner}"),
        ),
        ("x-one: 1\0\r\ncontent-length: 0".to_owned(), inner.clone()),
    ] {
        let upstream = RawUpstream::start(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
        let gateway = gateway("idle_timeout = 1", &tenants).await;
        let call = format!(
            "POST /first HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n{fields}\r\n\r\n{body}"
        );

        let answer = raw(&gateway, call).await;

        let received = upstream.received();
        assert!(!received.contains("GET /smuggled"), "{fields}: {received}");
        assert!(
            answer.matches("HTTP/1.1 ").count() <= 1,
            "{fields}: {answer}"
        );
        // What arrived says in one way how long it is.
        let lengths = received.matches("content-length").count();
        let codings = received.matches("transfer-encoding").count();
        assert!(lengths + codings <= 1, "{fields}: {received}");
    }
}

#[tokio::test]
async fn responses_with_two_lengths_are_not_forwarded() {
    let issuer = issuer().await;
    let upstream = RawUpstream::start(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    )
    .await;
    let gateway = gateway("", &tenant("acme", KEY, &upstream.origin, &issuer)).await;

    let response = send(&gateway, "GET", "/").await;

    assert_eq!(response.header("content-length"), None);
    assert_eq!(response.body, "body");
    let cut = r#"gateway_truncated_responses_total{tenant="acme",by="caller"}"#;
    assert_eq!(crate::support::metric(&gateway, cut).await, 0.0);
}

#[tokio::test]
async fn an_absolute_target_does_not_change_the_upstream() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;
    for target in [
        "http://evil.example/orders",
        "http://evil.example:80/orders",
        "https://user@evil.example/orders",
    ] {
        let call = format!(
            "GET {target} HTTP/1.1\r\nhost: other.example\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
        );

        let answer = raw(&gateway, call).await;

        assert!(answer.starts_with("HTTP/1.1 200"), "{target}: {answer}");
        let asked = upstream.requests().pop().unwrap();
        assert_eq!(asked.uri.path(), "/orders");
        assert_eq!(
            asked.header("host"),
            upstream.origin.strip_prefix("http://")
        );
    }
    for target in ["evil.example:443", "*", "orders"] {
        let call = format!(
            "GET {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
        );
        let answer = raw(&gateway, call).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{target}: {answer}");
    }
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn rapid_stream_resets_do_not_reach_the_upstream() {
    let issuer = issuer().await;
    let upstream = Upstream::start(|_| std::future::pending()).await;
    let well = Upstream::answering(200, ("x", "y")).await;
    let tenants = tenant(
        "flooded",
        "caller-key-of-flooded",
        &upstream.origin,
        &issuer,
    ) + &tenant("acme", KEY, &well.origin, &issuer);
    let gateway = gateway("", &tenants).await;
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let (mut send_request, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut sent = 0;
    for _ in 0..5000 {
        let call = Request::get(format!("http://{}/", gateway.address()))
            .header("authorization", "Bearer caller-key-of-flooded");
        send_request = match send_request.ready().await {
            Ok(ready) => ready,
            Err(_) => break,
        };
        let Ok((_, mut stream)) = send_request.send_request(call.body(()).unwrap(), false) else {
            break;
        };
        stream.send_reset(h2::Reason::CANCEL);
        sent += 1;
        if sent % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }

    // The others are served, whether or not the connection was ended.
    assert_eq!(send(&gateway, "GET", "/").await.status, 200);
    assert!(
        upstream.requests().len() <= 1024,
        "{}",
        upstream.requests().len()
    );
    connection.abort();
}

#[tokio::test]
async fn http2_header_size_is_limited() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let (mut send_request, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut call = Request::get(format!("http://{}/", gateway.address()))
        .header("authorization", format!("Bearer {KEY}"));
    for number in 0..1000 {
        call = call.header(format!("x-{number}"), "x".repeat(100));
    }

    let sent = send_request.send_request(call.body(()).unwrap(), true);
    let refused = match sent {
        Ok((response, _)) => response
            .await
            .map_or(true, |response| response.status() == 431),
        Err(_) => true,
    };

    assert!(refused);
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(send(&gateway, "GET", "/").await.status, 200);
    connection.abort();
}
