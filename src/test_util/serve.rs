//! The accept loop of a server: HTTP/1.1 and h2c on 127.0.0.1, until dropped.
//!
//! The protocol is detected from the first bytes of a connection, so a client needs no setting for HTTP/2.
//!
//! Dropping a [`Server`] aborts the accept loop, which owns the set of connections: requests in flight end with a
//! closed connection, as when a process is killed.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
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
    pub(super) fn start<S>(listener: TcpListener, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = BoxError>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
    {
        Self {
            task: tokio::spawn(accept(listener, service)),
        }
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
async fn accept<S>(listener: TcpListener, service: S)
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = BoxError>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let mut connections = JoinSet::new();
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
        let service = TowerToHyperService::new(service.clone());
        connections.spawn(async move {
            // An error here is the peer's, or the scripted reset.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Pause after an error of `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
