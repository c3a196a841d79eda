//! A listener and its connections: each has its limits, so that connections that send nothing cost little.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tower::ServiceExt;
use tower_m2m::BoxError;

use crate::{
    activity::{Activity, InFlight},
    answer,
    body::BodyWithGuard,
    connections::{Connections, Dropped},
    host,
    limits::{ConnectionLimit, ConnectionPermit, LimitReached},
    now,
    stream::CallerStream,
};

/// What one listener allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_peer: usize,
    /// For the first request's head.
    pub(crate) header_timeout: Duration,
    /// Between two requests, the next one's head included.
    pub(crate) idle_timeout: Duration,
    /// While the peer takes nothing of what is written.
    pub(crate) write_timeout: Duration,
    /// From the accept, whatever happens on the connection.
    pub(crate) lifetime: Option<Duration>,
}

/// Who has sent a request: in its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    activity: Arc<Activity>,
}

impl Peer {
    /// It is a known caller.
    pub(crate) fn known(&self) {
        self.activity.known();
    }

    /// It is not: without a known caller, the connection is closed.
    pub(crate) fn unknown(&self) {
        self.activity.unknown();
    }
}

/// What a listener does, in the order in which it comes to its end.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Stage {
    Serving,
    /// Connections are refused, and end with the requests in flight.
    Stopping,
    /// Connections are dropped.
    Aborted,
}

/// A listener that serves; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    connections: Arc<Connections>,
    stage: watch::Sender<Stage>,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens at `address`; `name` distinguishes the callers' listener from the operators', and `key` is the setting.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound: names key, address and cause.
    pub(crate) async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, BoxError> {
        let listener = TcpListener::bind(address).await;
        listener.map_err(|error| format!("{key}: cannot listen at {address}: {error}").into())
    }

    pub(crate) fn start(
        name: &'static str,
        listener: TcpListener,
        router: Router,
        settings: Settings,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let limit =
            ConnectionLimit::new(settings.max_connections, settings.max_connections_per_peer);
        let connections = Arc::new(Connections::new(name, limit));
        let (stage, stages) = watch::channel(Stage::Serving);
        let accepting = Accepting {
            listener,
            connection: Connection {
                router,
                settings,
                connections: Arc::clone(&connections),
                stages,
            },
        };
        Ok(Self {
            address,
            connections,
            stage,
            task: tokio::spawn(accepting.run()),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Refuses connections, and waits until the requests in flight have ended.
    pub(crate) async fn stop(&mut self) {
        self.stage.send_replace(Stage::Stopping);
        // It fails if it panicked, which is an end as well.
        let _ = (&mut self.task).await;
    }

    /// Drops all connections, and waits until they are dropped: what they log and count then is not lost.
    pub(crate) async fn abort(&mut self) {
        self.stage.send_replace(Stage::Aborted);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Accepting {
    listener: TcpListener,
    connection: Connection,
}

impl Accepting {
    async fn run(self) {
        let Self {
            listener,
            connection,
        } = self;
        let mut stages = connection.stages.clone();
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => connection.admit(stream, peer, &mut open),
                    Err(error) => connection.failed(&error).await,
                },
                Some(_) = open.join_next() => {}
                () = reached(&mut stages, Stage::Stopping) => break,
            }
        }
        drop(listener);
        tokio::select! {
            () = async { while open.join_next().await.is_some() {} } => return,
            () = reached(&mut stages, Stage::Aborted) => {}
        }
        open.shutdown().await;
    }
}

/// What every connection of a listener is served with.
#[derive(Clone)]
struct Connection {
    router: Router,
    settings: Settings,
    connections: Arc<Connections>,
    stages: watch::Receiver<Stage>,
}

impl Connection {
    fn admit(&self, stream: TcpStream, peer: SocketAddr, open: &mut JoinSet<()>) {
        match self.connections.limit().admit(peer.ip()) {
            Ok(place) => {
                open.spawn(self.clone().serve(stream, peer.ip(), place));
            }
            Err(LimitReached::Peer) => self.connections.drop_of(peer.ip(), Dropped::PeerLimit),
            Err(LimitReached::Total) => self.connections.drop_of(peer.ip(), Dropped::TotalLimit),
        }
    }

    async fn failed(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        // The peer has left before it was accepted.
        if ![ConnectionAborted, ConnectionRefused, ConnectionReset].contains(&error.kind()) {
            self.connections.not_accepted(error);
            // It may be the want of descriptors, which lasts.
            sleep(PAUSE).await;
        }
    }

    async fn serve(self, stream: TcpStream, peer: IpAddr, _place: ConnectionPermit) {
        let Self {
            router,
            settings,
            connections,
            mut stages,
        } = self;
        // A connection that is gone already shows that soon.
        let _ = stream.set_nodelay(true);
        let activity = Activity::new(now());
        let stream = CallerStream::new(stream, Arc::clone(&activity), settings.write_timeout);
        let service = {
            let activity = Arc::clone(&activity);
            let connections = Arc::clone(&connections);
            hyper::service::service_fn(move |request: Request<Incoming>| {
                let under_way = activity.begin();
                let malformed = host::check(&request).err();
                if malformed.is_some() {
                    connections.malformed();
                    activity.unknown();
                }
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(Peer {
                    address: peer,
                    activity: Arc::clone(&activity),
                });
                answer_with(router.clone(), request, malformed, under_way)
            })
        };
        let builder = builder();
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        let mut serving = std::pin::pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => Some(ended),
            () = activity.idle_for(settings.header_timeout, settings.idle_timeout) => None,
            () = is_over(&activity, settings.lifetime) => {
                serving.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = serving.as_mut() => Some(ended),
                    () = sleep(settings.header_timeout) => {
                        connections.drop_of(peer, Dropped::NotClosed);
                        Some(Ok(()))
                    }
                }
            }
            () = reached(&mut stages, Stage::Stopping) => {
                serving.as_mut().graceful_shutdown();
                // What has sent half a head is not waited for.
                tokio::select! {
                    ended = serving.as_mut() => Some(ended),
                    () = activity.finished(GRACE) => Some(Ok(())),
                }
            }
        };
        match ended {
            Some(_) if activity.writing_was_aborted() => {
                connections.drop_of(peer, Dropped::WriteTimeout);
            }
            Some(Err(error)) => {
                tracing::debug!(%peer, error = %answer::chain(&*error), "connection failed")
            }
            Some(Ok(())) => {}
            None if activity.has_started() => tracing::debug!(%peer, "idle connection closed"),
            None => connections.drop_of(peer, Dropped::HeaderTimeout),
        }
    }
}

async fn answer_with(
    router: Router,
    request: Request<Body>,
    malformed: Option<&'static str>,
    under_way: InFlight,
) -> Result<Response<Body>, std::convert::Infallible> {
    let response = match malformed {
        Some(why) => answer::malformed(why),
        None => router.oneshot(request).await?,
    };
    Ok(response.map(|body| Body::new(BodyWithGuard::new(body, under_way))))
}

/// Waits until a connection is to be closed whatever its peer does: who is not known does not keep one.
async fn is_over(activity: &Activity, lifetime: Option<Duration>) {
    let lifetime = async {
        match lifetime {
            Some(lifetime) => sleep(lifetime).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = activity.mark_unauthenticated() => {}
        () = lifetime => {}
    }
}

async fn reached(stages: &mut watch::Receiver<Stage>, stage: Stage) {
    // An error means that the server was dropped.
    drop(stages.wait_for(|now| *now >= stage).await);
}

/// What a connection may cost.
fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `Activity` counts for both protocols, and before it is known which one it is.
        .header_read_timeout(None)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(100)
        .max_header_list_size(32 * 1024)
        .max_send_buf_size(64 * 1024);
    builder
}

/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// For how long connections without a request are kept at the end: a head may be on its way.
const GRACE: Duration = Duration::from_millis(500);
