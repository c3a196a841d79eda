//! What becomes of fields and trailers on the way: RFC 9110, RFC 9112.

use axum::body::Body;
use http::{Request, header::AUTHORIZATION};
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use crate::support::{
    KEY, RawUpstream, Upstream, gateway, gateway_to, issuer, metric, raw, request, send, tenant,
};

const WITH_TRAILERS: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
    trailer: x-sum, set-cookie\r\n\r\n4\r\ndata\r\n0\r\nx-sum: 1\r\nset-cookie: canary\r\n\
    www-authenticate: Bearer realm=\"canary\"\r\nconnection: canary\r\n\r\n";

#[tokio::test]
async fn challenge_trailers_are_not_forwarded_over_http2() {
    let (issuer, upstream) = (issuer().await, RawUpstream::start(WITH_TRAILERS).await);
    let gateway = gateway("", &tenant("acme", KEY, &upstream.origin, &issuer)).await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Body>();
    let call = request(&gateway, "GET", "/").body(Body::empty()).unwrap();

    let response = client.request(call).await.unwrap();

    assert_eq!(response.headers()["trailer"], "x-sum");
    let all = response.into_body().collect().await.unwrap();
    let trailers = all.trailers().unwrap();
    assert_eq!(trailers["x-sum"], "1");
    assert_eq!(trailers.len(), 1, "{trailers:?}");
}

#[tokio::test]
async fn trailers_are_forwarded_over_http1() {
    let (issuer, upstream) = (issuer().await, RawUpstream::start(WITH_TRAILERS).await);
    let gateway = gateway("", &tenant("acme", KEY, &upstream.origin, &issuer)).await;
    let call = format!(
        "POST / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\nte: trailers\r\n\
         connection: te, close\r\ntransfer-encoding: chunked\r\ntrailer: x-digest, cookie\r\n\r\n\
         4\r\nbody\r\n0\r\nx-digest: 2\r\ncookie: canary\r\n\r\n"
    );

    let answer = raw(&gateway, call).await;

    assert!(answer.contains("\r\ntrailer: x-sum\r\n"), "{answer}");
    assert!(answer.ends_with("0\r\nx-sum: 1\r\n\r\n"), "{answer}");
    let received = upstream.received();
    assert!(received.contains("\r\ntrailer: x-digest\r\n"), "{received}");
    assert!(received.contains("\r\nte: trailers\r\n"), "{received}");
    assert!(received.contains("\r\nconnection: te\r\n"), "{received}");
    assert!(received.ends_with("0\r\nx-digest: 2\r\n\r\n"), "{received}");
    assert!(!format!("{answer}{received}").contains("canary"));
}

#[tokio::test]
async fn the_gateway_adds_via() {
    let (issuer, upstream) = (
        issuer().await,
        Upstream::answering(200, ("via", "1.0 inner")).await,
    );
    let gateway = gateway_to(&upstream, &issuer).await;
    let call = request(&gateway, "GET", "/").header("via", "1.1 outer");

    let response = crate::support::answer(call.body(Body::empty()).unwrap()).await;

    let asked = upstream.requests().remove(0);
    let via: Vec<_> = asked.headers.get_all("via").iter().collect();
    assert_eq!(via, ["1.1 outer", "1.1 gateway"]);
    assert_eq!(response.header("via"), Some("1.1 gateway"));
}

#[tokio::test]
async fn max_forwards_0_is_answered_by_the_gateway() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;
    let options = |left: &'static str| {
        let call = request(&gateway, "OPTIONS", "/").header("max-forwards", left);
        crate::support::answer(call.body(Body::empty()).unwrap())
    };

    let ended = options("0").await;
    let passed = options("2").await;

    assert_eq!((ended.status, passed.status), (200, 200));
    assert!(ended.header("allow").unwrap().contains("OPTIONS"));
    let [asked] = &upstream.requests()[..] else {
        panic!("not one request: {:?}", upstream.requests());
    };
    assert_eq!(asked.header("max-forwards"), Some("1"));
}

#[tokio::test]
async fn a_request_without_exactly_one_valid_host_is_malformed() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;
    for hosts in [
        "",
        "host: a\r\nhost: a\r\n",
        "host: a\r\nhost: b\r\n",
        "host: a/b\r\n",
        "host: a@b\r\n",
        "host: a b\r\n",
    ] {
        let call = format!(
            "GET / HTTP/1.1\r\n{hosts}authorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
        );

        let answer = raw(&gateway, call).await;

        assert!(answer.starts_with("HTTP/1.1 400"), "{hosts}: {answer}");
    }
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(
        metric(&gateway, "gateway_malformed_requests_total").await,
        6.0
    );
    // HTTP/1.0 has none.
    let call = format!("GET / HTTP/1.0\r\nauthorization: Bearer {KEY}\r\n\r\n");
    assert!(raw(&gateway, call).await.contains(" 200 "));
}

#[tokio::test]
async fn headers_named_by_connection_are_removed_and_invalid_names_ignored() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;
    let head = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\nx-priv: canary\r\nx-kept: 1\r\n"
    );
    let mut call = head.into_bytes();
    call.extend_from_slice(b"connection: x-priv, \xff\r\nconnection: close\r\n\r\n");

    let answer = raw(&gateway, call).await;

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let asked = upstream.requests().remove(0);
    assert_eq!(
        (asked.header("x-priv"), asked.header("x-kept")),
        (None, Some("1"))
    );
}

#[tokio::test]
async fn location_is_rewritten_to_the_gateway() {
    let issuer = issuer().await;
    let upstream = Upstream::start(|request| async move {
        let host = request.headers()["host"].to_str().unwrap();
        let location = format!("http://{host}/orders/7?a=b");
        let link = format!("<{location}>; rel=\"self\"");
        axum::response::Response::builder()
            .status(201)
            .header("location", location)
            .header("link", link)
            .header("alt-svc", format!("h2=\"{host}\""))
            .body(Body::empty())
            .unwrap()
    })
    .await;
    let gateway = gateway_to(&upstream, &issuer).await;

    let response = send(&gateway, "POST", "/orders").await;

    assert_eq!(response.header("location"), Some("/orders/7?a=b"));
    assert_eq!(
        response.header("link"),
        Some("</orders/7?a=b>; rel=\"self\"")
    );
    let inner = upstream.origin.strip_prefix("http://").unwrap();
    assert!(!format!("{response:?}").contains(inner), "{response:?}");
}

#[tokio::test]
async fn a_host_that_differs_from_the_http2_authority_is_malformed() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Body>();
    let address = gateway.address().to_string();
    for (host, status) in [(&*address, 200), ("other.example", 400)] {
        let call = Request::get(format!("http://{address}/"))
            .header(AUTHORIZATION, format!("Bearer {KEY}"))
            .header("host", host);

        let response = client.request(call.body(Body::empty()).unwrap()).await;

        assert_eq!(response.unwrap().status(), status, "{host}");
    }
}
