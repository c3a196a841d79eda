//! A gateway between a client and an upstream that records its requests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, extract::Request, response::Response};
use bytes::Bytes;
use gateway::{Config, Gateway};
use http::{HeaderMap, Method, Uri, header::AUTHORIZATION, request};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower_m2m::test_util::Issuer;

pub(crate) const KEY: &str = "caller-key-of-acme";

/// An upstream that stops when it is dropped.
pub(crate) struct Upstream {
    pub(crate) origin: String,
    requests: Arc<Mutex<Vec<RecordedRequest>>>,
    task: JoinHandle<()>,
}

/// The head of a request that it got.
#[derive(Clone, Debug)]
pub(crate) struct RecordedRequest {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Upstream {
    pub(crate) async fn start<F, R>(answer: F) -> Self
    where
        F: Fn(Request) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response> + Send,
    {
        let asked = Arc::<Mutex<Vec<RecordedRequest>>>::default();
        let seen = Arc::clone(&asked);
        let router = Router::new().fallback(async move |request: Request| {
            let (head, body) = request.into_parts();
            seen.lock().unwrap().push(RecordedRequest::of(&head));
            answer(Request::from_parts(head, body)).await
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self {
            origin,
            requests: asked,
            task,
        }
    }

    /// Answers this status, with this field.
    pub(crate) async fn answering(status: u16, field: (&'static str, &'static str)) -> Self {
        Self::start(move |_| async move {
            let response = Response::builder().status(status).header(field.0, field.1);
            response.body("from upstream".into()).unwrap()
        })
        .await
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RecordedRequest {
    fn of(head: &request::Parts) -> Self {
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            headers: head.headers.clone(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

pub(crate) async fn issuer() -> Issuer {
    let issuer = Issuer::builder().client("acme", "acme-secret");
    issuer.start().await.unwrap()
}

/// The table of a tenant that gets its tokens from `issuer`.
pub(crate) fn tenant(name: &str, key: &str, upstream: &str, issuer: &Issuer) -> String {
    format!(
        "[tenants.{name}]\nupstream = \"{upstream}\"\ncaller_keys = [\"{key}\"]\n\
         [tenants.{name}.credentials]\ntoken_url = \"{}\"\nclient_id = \"acme\"\n\
         client_secret = \"acme-secret\"\nclient_auth = \"basic\"\n",
        issuer.token_url(),
    )
}

/// A gateway at ports of its own.
pub(crate) async fn gateway(settings: &str, tenants: &str) -> Gateway {
    let ports = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
    let config = Config::parse(&format!("{ports}{settings}\n{tenants}")).unwrap();
    Gateway::start(&config).await.unwrap()
}

/// One tenant, `acme`, with the key [`KEY`].
pub(crate) async fn gateway_to(upstream: &Upstream, issuer: &Issuer) -> Gateway {
    gateway("", &tenant("acme", KEY, &upstream.origin, issuer)).await
}

pub(crate) fn client() -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// A request with the key of `acme`.
pub(crate) fn request(gateway: &Gateway, method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", gateway.address()))
        .header(AUTHORIZATION, format!("Bearer {KEY}"))
}

/// Sends a request with the key of `acme` and a body of a few bytes.
pub(crate) async fn send(gateway: &Gateway, method: &str, path: &str) -> Answer {
    let body = match method {
        "GET" => Body::empty(),
        _ => Body::from("some bytes"),
    };
    answer(request(gateway, method, path).body(body).unwrap()).await
}

pub(crate) async fn admin(gateway: &Gateway, path: &str) -> Answer {
    let uri = format!("http://{}{path}", gateway.admin_address());
    answer(Request::get(uri).body(Body::empty()).unwrap()).await
}

/// A response that was read in full.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.header("retry-after")?.parse().ok()
    }
}

pub(crate) async fn answer(request: Request) -> Answer {
    let response = client().request(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body: Bytes = body.collect().await.unwrap().to_bytes();
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    Answer {
        status: head.status.as_u16(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// The value of a metric with its labels, as in the page.
pub(crate) async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let page = admin(gateway, "/metrics").await.body;
    let value = page.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(' ')?;
        value.parse().ok()
    });
    value.unwrap_or_else(|| panic!("{name} in\n{page}"))
}

/// Sends these bytes to the callers' listener, and reads until the gateway closes the connection.
pub(crate) async fn raw(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let _ = stream.write_all(bytes.as_ref()).await;
    let mut answer = Vec::new();
    // The connection may be reset after the answer.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// An upstream that answers each connection with these bytes, and keeps what it was sent.
pub(crate) struct RawUpstream {
    pub(crate) origin: String,
    received: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl RawUpstream {
    /// Answers once the head of a request has arrived, and reads on until the connection ends.
    pub(crate) async fn start(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::<Mutex<Vec<u8>>>::default();
        let all = Arc::clone(&received);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let all = Arc::clone(&all);
                connections.spawn(async move {
                    let (mut own, mut answered) = (Vec::new(), false);
                    let mut buffer = [0; 4096];
                    loop {
                        match stream.read(&mut buffer).await {
                            Ok(0) | Err(_) => return,
                            Ok(length) => {
                                own.extend_from_slice(&buffer[..length]);
                                all.lock().unwrap().extend_from_slice(&buffer[..length]);
                            }
                        }
                        if !answered && own.windows(4).any(|end| end == b"\r\n\r\n") {
                            answered = true;
                            stream.write_all(answer).await.unwrap();
                            if answer.is_empty() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Self {
            origin,
            received,
            task,
        }
    }

    pub(crate) fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}
