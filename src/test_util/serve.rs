//! The accept loop of a server: HTTP/1.1 and h2c on 127.0.0.1, until dropped.
//!
//! The protocol is detected from the first bytes of a connection, so a client needs no setting for HTTP/2.
//!
//! Dropping a [`Server`] aborts the accept loop, which owns the set of connections: requests in flight end with a
//! closed connection, as when a process is killed.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::{JoinHandle, JoinSet},
};
use tower::util::MapRequest;
use tower_service::Service;

use super::BoxError;

/// A running server. Dropping it closes the listener and all connections.
#[derive(Debug)]
pub(super) struct Server {
    /// The accept loop.
    task: JoinHandle<()>,
}

impl Server {
    /// Serves every connection that `listener` accepts with `service`.
    pub(super) fn start<S, B>(listener: TcpListener, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = BoxError>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self {
            task: tokio::spawn(accept(listener, service)),
        }
    }
}

/// The connection of a request, in its extensions.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// Number of the connection, from 1.
    number: u64,
    /// Wakes the task that serves it.
    closing: Arc<Notify>,
}

impl Connection {
    /// Returns its number, from 1 in the order of acceptance.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Ends the connection once the requests in flight have completed: by GOAWAY, or `Connection: close`.
    pub(super) fn close(&self) {
        self.closing.notify_one();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The task owns the set of its connections, so they end with it.
        self.task.abort();
    }
}

/// Binds a listener to a free port of 127.0.0.1.
pub(super) async fn bind() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Accepts connections until the task is aborted.
async fn accept<S, B>(listener: TcpListener, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = BoxError>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut accepted = 0;
    loop {
        // Completed connections are removed, so that the set does not grow.
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, or the peer has disconnected: both are temporary.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Small responses must not wait for the peer's acknowledgments.
        let _ = stream.set_nodelay(true);
        accepted += 1;
        let connection = Connection {
            number: accepted,
            closing: Arc::default(),
        };
        let closing = Arc::clone(&connection.closing);
        let service = MapRequest::new(service.clone(), move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(connection.clone());
            request
        });
        connections.spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let service = TowerToHyperService::new(service);
            let mut serving = pin!(server.serve_connection(TokioIo::new(stream), service));
            // An error here is the peer's, or the scripted reset.
            tokio::select! {
                _ = serving.as_mut() => {}
                () = closing.notified() => {
                    serving.as_mut().graceful_shutdown();
                    let _ = serving.await;
                }
            }
        });
    }
}

/// Pause after an error of `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
