//! Whose fault a failure is: the caller's, the upstream's or the gateway's own.

use axum::{body::Body, response::Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    KEY, RawUpstream, Upstream, client, gateway, issuer, metric, raw, request, send, tenant,
};

/// The head of an upload, `fields` and an empty line included.
fn upload(method: &str, fields: &str) -> String {
    format!(
        "{method} /orders HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n{fields}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_failing_request_body_is_attributed_to_the_caller() {
    let issuer = issuer().await;
    let upstream = Upstream::start(|request| async {
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await;
        let status = if body.is_ok() { 200 } else { 500 };
        Response::builder()
            .status(status)
            .body(Body::empty())
            .unwrap()
    })
    .await;
    let chunked = "transfer-encoding: chunked";
    let broken = [
        upload("POST", chunked) + "5\r\nhello\r\nnot-a-size\r\n",
        upload("PUT", chunked) + "5\r\nhello\r\nnot-a-size\r\n",
        upload("PUT", chunked) + "fffffffffffffffff\r\nx",
        upload("POST", chunked) + "5\r\nhelloworld\r\n0\r\n\r\n",
    ];
    // With tower-m2m's layers, and without.
    let plain = format!(
        "[tenants.acme]\nupstream = \"{}\"\ncaller_keys = [\"{KEY}\"]",
        upstream.origin
    );
    for tenants in [tenant("acme", KEY, &upstream.origin, &issuer), plain] {
        let gateway = gateway("", &tenants).await;
        for request in &broken {
            let answer = raw(&gateway, request).await;

            assert!(answer.starts_with("HTTP/1.1 400"), "{request}: {answer}");
        }
        let broken = r#"gateway_requests_total{tenant="acme",outcome="upload_broken"}"#;
        assert_eq!(metric(&gateway, broken).await, 4.0);
    }
}

#[tokio::test]
async fn an_aborted_upload_is_attributed_to_the_caller() {
    let (issuer, upstream) = (issuer().await, RawUpstream::start(b"").await);
    let gateway = gateway("", &tenant("acme", KEY, &upstream.origin, &issuer)).await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let half = upload("POST", "content-length: 100") + "half";
    stream.write_all(half.as_bytes()).await.unwrap();

    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;

    assert!(!answer.starts_with(b"HTTP/1.1 502"), "{answer:?}");
    let mut faults = 0.0;
    for outcome in ["upload_broken", "caller_left"] {
        let name = format!("gateway_requests_total{{tenant=\"acme\",outcome=\"{outcome}\"}}");
        faults += metric(&gateway, &name).await;
    }
    assert_eq!(faults, 1.0);
}

#[tokio::test]
async fn a_stalled_upload_is_attributed_to_the_caller() {
    let issuer = issuer().await;
    let upstream = Upstream::start(|request| async {
        let _ = axum::body::to_bytes(request.into_body(), usize::MAX).await;
        Response::default()
    })
    .await;
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let gateway = gateway("deadline = 1", &tenants).await;

    let answer = raw(&gateway, upload("POST", "content-length: 100") + "half").await;

    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let slow = r#"gateway_requests_total{tenant="acme",outcome="upload_timeout"}"#;
    assert_eq!(metric(&gateway, slow).await, 1.0);
}

#[tokio::test]
async fn upstream_failures_are_reported_by_kind() {
    let issuer = issuer().await;
    for (answer, outcome) in [
        // It closes the connection.
        (&b""[..], "connection_lost"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "deadline"),
        (b"nonsense\r\n\r\n", "invalid_answer"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "invalid_answer",
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            "invalid_answer",
        ),
    ] {
        let upstream = RawUpstream::start(answer).await;
        let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
        let gateway = gateway("deadline = 1", &tenants).await;

        // Not idempotent, so that it is sent once.
        let response = send(&gateway, "POST", "/").await;

        let status = if outcome == "deadline" { 504 } else { 502 };
        assert_eq!(response.status, status, "{outcome}: {response:?}");
        let name = format!("gateway_requests_total{{tenant=\"acme\",outcome=\"{outcome}\"}}");
        assert_eq!(metric(&gateway, &name).await, 1.0, "{outcome}");
        assert!(!response.headers.contains_key("upgrade"));
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_connections_is_unreachable() {
    let issuer = issuer().await;
    let tenants = tenant("acme", KEY, "http://127.0.0.1:1", &issuer);
    let gateway = gateway("max_wait = 0", &tenants).await;

    let response = send(&gateway, "POST", "/").await;

    assert_eq!(response.status, 502);
    assert!(
        response.body.contains("could not be reached"),
        "{}",
        response.body
    );
    let name = r#"gateway_requests_total{tenant="acme",outcome="unreachable"}"#;
    assert_eq!(metric(&gateway, name).await, 1.0);
}

#[tokio::test]
async fn truncated_responses_are_counted_by_cause() {
    let issuer = issuer().await;
    let upstream = RawUpstream::start(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    let gateway = gateway("", &tenant("acme", KEY, &upstream.origin, &issuer)).await;
    let cut =
        |by: &str| format!("gateway_truncated_responses_total{{tenant=\"acme\",by=\"{by}\"}}");
    let call = request(&gateway, "GET", "/").body(Body::empty()).unwrap();
    let response = client().request(call).await.unwrap();
    assert_eq!(metric(&gateway, &cut("caller")).await, 0.0);

    drop(response);
    while metric(&gateway, &cut("caller")).await == 0.0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    assert_eq!(metric(&gateway, &cut("upstream")).await, 0.0);
    let call = request(&gateway, "GET", "/").body(Body::empty()).unwrap();
    let response = client().request(call).await.unwrap();
    drop(upstream);
    let body = http_body_util::BodyExt::collect(response.into_body());
    assert!(body.await.is_err());
    assert_eq!(metric(&gateway, &cut("upstream")).await, 1.0);
}
