//! A server on loopback that can be down for a while, and make trouble for requests.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tower::{BoxError, Service};

use crate::{
    ledger::Ledger,
    trouble::{Cut, Trouble, answer},
};

/// The header that numbers the calls.
pub(crate) const CALL: &str = "x-call";

/// A running server; it ends when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) faults: Arc<Faults>,
    outages: mpsc::UnboundedSender<Duration>,
    task: JoinHandle<()>,
}

/// What is to go wrong, and what has been counted.
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) arrived: AtomicU64,
    pub(crate) open: AtomicUsize,
    pub(crate) max_open: AtomicUsize,
    /// No more trouble.
    pub(crate) calm: AtomicBool,
    /// How many requests met trouble.
    pub(crate) made: AtomicU64,
    pub(crate) ledger: Ledger,
}

impl Server {
    /// `trouble` says what the next request meets.
    pub(crate) async fn start<S>(service: S, trouble: fn() -> Option<Trouble>) -> io::Result<Self>
    where
        S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = BoxError>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        let listener = listen().await?;
        let address = listener.local_addr()?;
        let (outages, orders) = mpsc::unbounded_channel();
        let faults = Arc::<Faults>::default();
        let inner = Chaos {
            inner: service,
            faults: Arc::clone(&faults),
            trouble,
        };
        let task = tokio::spawn(serve(listener, address, orders, inner));
        Ok(Self {
            address,
            faults,
            outages,
            task,
        })
    }

    /// Closes the listener and all connections for `time`.
    pub(crate) fn fail_for(&self, time: Duration) {
        // The server's task lives as long as `self`.
        let _ = self.outages.send(time);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// At a port below those that the system gives to clients: while the server is down, none of them can be given it.
async fn listen() -> io::Result<TcpListener> {
    loop {
        let port = fastrand::u16(20_000..32_000);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            outcome => return outcome,
        }
    }
}

async fn serve<S>(
    mut listener: TcpListener,
    address: SocketAddr,
    mut outages: mpsc::UnboundedReceiver<Duration>,
    service: Chaos<S>,
) where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = BoxError>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            Some(time) = outages.recv() => {
                drop(listener);
                connections.shutdown().await;
                sleep(time).await;
                listener = loop {
                    match TcpListener::bind(address).await {
                        Ok(listener) => break listener,
                        Err(_) => sleep(Duration::from_millis(10)).await,
                    }
                };
            }
            Ok((stream, _)) = listener.accept() => {
                let _ = stream.set_nodelay(true);
                let open = Open::new(&service.faults);
                let service = TowerToHyperService::new(service.clone());
                connections.spawn(async move {
                    let _open = open;
                    // An error here is one of those that are made on purpose, or the client's.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        }
    }
}

/// Counts a connection while it is open.
struct Open(Arc<Faults>);

impl Open {
    fn new(faults: &Arc<Faults>) -> Self {
        let open = faults.open.fetch_add(1, Relaxed) + 1;
        faults.max_open.fetch_max(open, Relaxed);
        Self(Arc::clone(faults))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// Makes trouble for requests on their way to `inner` and back.
#[derive(Clone)]
struct Chaos<S> {
    inner: S,
    faults: Arc<Faults>,
    trouble: fn() -> Option<Trouble>,
}

impl<S, B> Service<Request<B>> for Chaos<S>
where
    S: Service<Request<B>, Response = Response<Full<Bytes>>, Error = BoxError> + Clone + Send,
    S: 'static,
    S::Future: Send,
    B: Body<Data: Send> + Send + Unpin + 'static,
{
    type Response = Response<Either<Full<Bytes>, Cut>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (inner, faults, trouble) = (self.inner.clone(), Arc::clone(&self.faults), self.trouble);
        Box::pin(async move {
            faults.arrived.fetch_add(1, Relaxed);
            let post = number(&request).filter(|_| request.method() == Method::POST);
            if let Some(number) = post {
                faults.ledger.arrived(number);
            }
            let trouble = trouble().filter(|_| !faults.calm.load(Relaxed));
            if trouble.is_some() {
                faults.made.fetch_add(1, Relaxed);
            }
            let response = answer(inner, request, trouble).await?;
            let refused = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS];
            if let Some(number) = post.filter(|_| refused.contains(&response.status())) {
                faults.ledger.refused(number);
            }
            Ok(response)
        })
    }
}

fn number<B>(request: &Request<B>) -> Option<usize> {
    request.headers().get(CALL)?.to_str().ok()?.parse().ok()
}
