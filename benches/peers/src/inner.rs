//! The request, and the services under the layers.

use std::{
    convert::Infallible,
    fmt::Debug,
    future::{Ready, ready},
    hint::black_box,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Body;
use http_body_util::{Empty, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::Service;

use crate::announced::{Quotas, origin};

pub type Sent = Request<Full<Bytes>>;

/// Makes requests: POST, 4 headers, a body of 85 bytes, to each origin in turn. One for each thread, so that its
/// requests share nothing with others.
pub struct Template {
    by_origin: Vec<Sent>,
    next: usize,
    room: Room,
}

/// Whether a request's header map has room for another header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Room {
    /// The map is full, as in a clone: adding a header makes it grow.
    No,
    /// It has, as in most of those that are built anew.
    Yes,
}

impl Template {
    pub fn new(room: Room, origins: usize) -> Self {
        let request = |number| {
            Request::post(format!(
                "{}/v1/orders?expand=lines",
                origin(number, origins)
            ))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "bench/1.0")
            .header("x-request-id", "5f1c7a52-8d5e-4a6e-a1a5-4f2b7f3f8c11")
            .body(Full::new(Bytes::from_static(&[b'x'; 85])))
            .expect("a request")
        };
        Self {
            by_origin: (0..origins).map(request).collect(),
            // Threads begin at different origins, so that they do not meet at each of them.
            next: fastrand::usize(..origins),
            room,
        }
    }

    pub fn request(&mut self) -> Sent {
        let template = &self.by_origin[self.next];
        self.next += 1;
        if self.next == self.by_origin.len() {
            self.next = 0;
        }
        if self.room == Room::No {
            return template.clone();
        }
        let mut request = Request::new(template.body().clone());
        request.method_mut().clone_from(template.method());
        request.uri_mut().clone_from(template.uri());
        let headers = request.headers_mut();
        headers.reserve(6);
        for (name, value) in template.headers() {
            headers.append(name, value.clone());
        }
        request
    }
}

pub fn request() -> Sent {
    Template::new(Room::Yes, 1).request()
}

pub fn token() -> String {
    "t".repeat(900)
}

/// What a service answers with. Some peers work with one type of errors and bodies only.
pub trait Kind: Send + Sync + 'static {
    type Body: Body<Data = Bytes> + Send + 'static;
    type Error: Debug + Send + Sync + 'static;

    fn body() -> Self::Body;
}

/// The least there is to move about.
pub struct Plain;

impl Kind for Plain {
    type Body = Empty<Bytes>;
    type Error = Infallible;

    fn body() -> Empty<Bytes> {
        Empty::new()
    }
}

pub type Answer<K> = Response<<K as Kind>::Body>;

/// A service that responds immediately.
pub trait Inner<K: Kind>:
    Service<
        Sent,
        Response = Answer<K>,
        Error = K::Error,
        Future = Ready<Result<Answer<K>, K::Error>>,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<K: Kind, S> Inner<K> for S where
    S: Service<
            Sent,
            Response = Answer<K>,
            Error = K::Error,
            Future = Ready<Result<Answer<K>, K::Error>>,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// What it costs to clone it is nothing.
pub struct Free<K>(PhantomData<fn() -> K>);

impl<K> Free<K> {
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K> Clone for Free<K> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<K: Kind> Service<Sent> for Free<K> {
    type Response = Answer<K>;
    type Error = K::Error;
    type Future = Ready<Result<Answer<K>, K::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), K::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        drop(black_box(request));
        ready(Ok(Response::new(K::body())))
    }
}

/// The same, and announces its quota in every response.
pub struct Announcing<K> {
    quotas: &'static Quotas,
    kind: PhantomData<fn() -> K>,
}

impl<K> Announcing<K> {
    pub fn new(quotas: &'static Quotas) -> Self {
        Self {
            quotas,
            kind: PhantomData,
        }
    }
}

impl<K> Clone for Announcing<K> {
    fn clone(&self) -> Self {
        Self::new(self.quotas)
    }
}

impl<K: Kind> Service<Sent> for Announcing<K> {
    type Response = Answer<K>;
    type Error = K::Error;
    type Future = Ready<Result<Answer<K>, K::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), K::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        let mut answer = Response::new(K::body());
        let host = request.uri().host().expect("an absolute URI");
        self.quotas.announce(host, answer.headers_mut());
        drop(black_box(request));
        ready(Ok(answer))
    }
}

pub type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// hyper-util's client for https, with its real costs of cloning and dropping. Responses come from memory.
pub struct HyperUtil<K> {
    client: Https,
    answers: Free<K>,
}

impl<K> HyperUtil<K> {
    pub fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .build();
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            answers: Free::new(),
        }
    }
}

impl<K> Clone for HyperUtil<K> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            answers: self.answers.clone(),
        }
    }
}

impl<K: Kind> Service<Sent> for HyperUtil<K> {
    type Response = Answer<K>;
    type Error = K::Error;
    type Future = Ready<Result<Answer<K>, K::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), K::Error>> {
        self.answers.poll_ready(cx)
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        self.answers.call(request)
    }
}
