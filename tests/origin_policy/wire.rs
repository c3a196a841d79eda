//! What leaves the process on real connections.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderValue, Uri, header};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection, HttpConnector},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::{Layer, Service};
use tower_m2m::{BoxError, ClientCredentialsLayer, client_credentials::OriginNotAllowed};

use super::{
    support::{Body, Source, get},
    to,
};

/// A server for one request; what it read, in lower case.
async fn listener() -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let reading = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.unwrap() > 0);
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        String::from_utf8(head).unwrap().to_ascii_lowercase()
    });
    (authority, reading)
}

fn credentials(origin: &str) -> ClientCredentialsLayer {
    ClientCredentialsLayer::builder(Source::default(), origin.parse().unwrap()).build()
}

#[tokio::test]
async fn the_host_received_by_the_server_is_the_allowed_one() {
    let (authority, reading) = listener().await;
    let origin = format!("http://{authority}");
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let mut service = credentials(&origin).layer(client);
    let mut request = to(&format!("{origin}/path"));
    let same = HeaderValue::from_str(&authority).unwrap();
    request.headers_mut().insert(header::HOST, same);

    service.call(request).await.unwrap();

    let head = reading.await.unwrap();
    assert!(head.starts_with("get /path http/1.1\r\n"), "{head}");
    assert_eq!(head.matches(&format!("host: {authority}\r\n")).count(), 1);
    assert!(head.contains("authorization: bearer token-1\r\n"), "{head}");
}

/// A proxy receives the absolute URI, and routes by it rather than by `Host`.
#[tokio::test]
async fn a_proxy_receives_the_token_only_for_the_allowed_origin() {
    let (proxy, reading) = listener().await;
    let client = Client::builder(TokioExecutor::new()).build::<_, Body>(Proxied(proxy));
    let mut service = credentials("http://127.0.0.1:8080").layer(client);

    for uri in ["http://127.0.0.1:8081/", "http://evil.example/"] {
        let error = service.call(to(uri)).await.unwrap_err();
        assert!(error.is::<OriginNotAllowed>(), "{uri}: {error}");
    }
    let mut other_host = to("http://127.0.0.1:8080/path");
    let evil = HeaderValue::from_static("evil.example");
    other_host.headers_mut().insert(header::HOST, evil);
    let error = service.call(other_host).await.unwrap_err();
    assert!(error.is::<OriginNotAllowed>());
    service
        .call(to("http://127.0.0.1:8080/path"))
        .await
        .unwrap();

    let head = reading.await.unwrap();
    let line = "get http://127.0.0.1:8080/path http/1.1\r\n";
    assert!(head.starts_with(line), "{head}");
    assert!(head.contains("host: 127.0.0.1:8080\r\n"), "{head}");
    assert!(head.contains("authorization: bearer token-1\r\n"), "{head}");
}

#[tokio::test]
async fn the_authority_received_by_an_http2_server_is_the_allowed_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let origin = format!("http://{authority}");
    let reading = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let answer = hyper::service::service_fn(move |request: http::Request<_>| {
            let (parts, _): (_, hyper::body::Incoming) = request.into_parts();
            sender.send((parts.uri, parts.headers)).unwrap();
            async { Ok::<_, Infallible>(http::Response::new(Body::default())) }
        });
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), answer);
        tokio::select! {
            ended = serving => panic!("{ended:?}"),
            seen = seen.recv() => seen.unwrap(),
        }
    });
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Body>();
    let mut service = credentials(&origin).layer(client);
    let mut other = get("/");
    *other.uri_mut() = format!("{origin}/path").parse().unwrap();
    let evil = HeaderValue::from_static("evil.example");
    other.headers_mut().insert(header::HOST, evil);

    let error = service.call(other).await.unwrap_err();
    // The server leaves without an answer: all that counts is what it read.
    drop(service.call(to(&format!("{origin}/path"))).await);

    assert!(error.is::<OriginNotAllowed>());
    let (uri, headers) = reading.await.unwrap();
    assert_eq!(uri.authority().unwrap().as_str(), authority);
    assert!(!headers.contains_key(header::HOST));
    assert_eq!(headers[header::AUTHORIZATION], "Bearer token-1");
}

/// Connects to a proxy, whatever the URI says.
#[derive(Clone)]
struct Proxied(String);

impl Service<Uri> for Proxied {
    type Response = ToProxy;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<ToProxy, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let proxy: Uri = format!("http://{}", self.0).parse().unwrap();
        Box::pin(async move { Ok(ToProxy(HttpConnector::new().call(proxy).await?)) })
    }
}

struct ToProxy(TokioIo<TcpStream>);

impl Connection for ToProxy {
    fn connected(&self) -> Connected {
        Connected::new().proxy(true)
    }
}

impl hyper::rt::Read for ToProxy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for ToProxy {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
