//! The Redis connection of a store: to one server, or to the nodes of a cluster. Follows redirections.
//!
//! A command is sent to the node that owns the slot of its first key. The slots are learned from `MOVED` redirections
//! rather than by `CLUSTER SLOTS`, so the user needs no permission for it. A command is sent again only if the server
//! redirected or rejected it, or the connection broke.
//!
//! Because a broken connection does not reveal whether the command was executed, a script may run twice.
//!
//! The `redis` crate's own cluster client (`cluster_async`) is not used: while it refreshes its map of slots, it
//! connects to every node of the map and delays all commands. Measured with redis 1.8.1 and redis-server 7.0.15 on
//! loopback: three masters, one stopped by SIGSTOP; commands limited to 250 ms. For `cluster_async`: lazy connection,
//! connect timeout 62 ms, and after a timeout a new connection in the background.
//!
//! | milliseconds | here | `cluster_async` |
//! |---|---|---|
//! | healthy slot, while another caller uses the stopped node's slots: median, maximum | 1.3, 7 | 1.4, 134 |
//! | healthy slot, first command after `MOVED` | 1.3 to 1.8 | 66 to 132 |
//! | slot of the stopped node, until it works at the node that has it now | 253 | 508 |
//! | first success of a new client whose first URL is the stopped node | 254 (second command) | 131 |
//!
//! With a connect timeout of 20 ms the maximum is 47 ms; with 1 s, commands on healthy slots fail. Without the new
//! connection it does not leave the stopped node within 10 s. It also needs permission for `CLUSTER SLOTS` and `PING`.

mod heard;
mod node;
mod routes;
mod script;

use std::{sync::Arc, time::Duration};

use redis::{
    Client, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo, ProtocolVersion,
    RedisError, ServerErrorKind, Value,
};
#[cfg(feature = "redis-tls")]
use redis::{ConnectionAddr, TlsCertificates};
use tokio::time::sleep;

pub(crate) use self::script::{Call, Script};
use self::{
    heard::OnPush,
    node::{Failed, Node},
    routes::{Routes, redirected, slot},
};
use super::StoreError;
use crate::sync::{Mutex, lock};

/// A connection to one server or one cluster. Cheap to clone: clones share the routes and the connections.
///
/// A call goes through these states:
///
/// | response | next |
/// |---|---|
/// | a result | done |
/// | `NOSCRIPT` | the same node, with the text of the script; once |
/// | `MOVED` | the named node; the slot is remembered |
/// | `ASK` | the named node, this call only |
/// | `TRYAGAIN` | after 15 ms, the node of the slot |
/// | connection broke | the node of the slot, over a new connection; once per configured node |
/// | timeout, any other error | an error |
#[derive(Clone)]
pub(crate) struct Connection {
    /// Configured nodes: one server, or some nodes of a cluster. Never empty.
    seeds: Arc<[ConnectionInfo]>,
    /// Time limit of each command, including a new connection. Default: 250 ms.
    timeout: Duration,
    /// Callback for published messages. `None` if the connection does not subscribe.
    on_push: Option<OnPush>,
    /// Known nodes and slots. Held only for a lookup or an update, never across an `await`.
    routes: Arc<Mutex<Routes>>,
}

impl Connection {
    /// Creates a connection without connecting.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Configuration`](super::StoreErrorKind::Configuration), if there is no URL or one is invalid.
    pub(crate) fn new<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
    ) -> Result<Self, StoreError> {
        Self::open(urls, |info| info)
    }

    /// Creates a connection that can receive messages; see [`subscribe`](Self::subscribe). It speaks RESP3, which
    /// delivers messages on the connection that commands use.
    ///
    /// `on_push` is called with the name of a channel for each message, and with `None` when messages may have been lost.
    /// It must return at once: it runs on the task of the connection, or on that of a caller.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub(crate) fn with_push_handler<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
        on_push: impl Fn(Option<&str>) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let connection = Self::open(urls, |info| {
            let settings = info.redis_settings().clone();
            info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3))
        })?;
        Ok(Self {
            on_push: Some(Arc::new(on_push)),
            ..connection
        })
    }

    /// Parses the URLs, with `set` applied to each. Does not connect.
    fn open<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
        set: impl Fn(ConnectionInfo) -> ConnectionInfo,
    ) -> Result<Self, StoreError> {
        let read = |url: U| {
            // Opening a client parses the URL and connects to nothing.
            let client = Client::open(set(url.as_ref().into_connection_info()?))?;
            Ok(client.get_connection_info().clone())
        };
        let seeds: Result<Arc<[_]>, RedisError> = urls.into_iter().map(read).collect();
        // The library's error may repeat the URL, which contains a password.
        let seeds = seeds.ok().filter(|seeds| !seeds.is_empty());
        let seeds = seeds.ok_or_else(|| {
            StoreError::configuration(
                "has no URL, or an invalid one; expected `redis://user:password@host:port/database`, or `rediss://` \
                 with the feature `redis-tls`",
            )
        })?;
        Ok(Self {
            seeds,
            timeout: Duration::from_millis(250),
            on_push: None,
            routes: Arc::default(),
        })
    }

    /// Trusts only server certificates that chain to `root`, a PEM certificate.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Configuration`](super::StoreErrorKind::Configuration), if `root` is not PEM or a URL is not
    /// `rediss://`.
    #[cfg(feature = "redis-tls")]
    pub(crate) fn set_root_certificate(&mut self, root: &[u8]) -> Result<(), StoreError> {
        let trusting = |info: &ConnectionInfo| {
            let certificates = TlsCertificates {
                client_tls: None,
                root_cert: Some(root.to_vec()),
            };
            let client = Client::build_with_tls(info.clone(), certificates)?;
            Ok(client.get_connection_info().clone())
        };
        let seeds: Result<_, RedisError> = self.seeds.iter().map(trusting).collect();
        self.seeds = seeds.map_err(|error| {
            StoreError::configuration(
                "has a root certificate that is not PEM, or a URL that is not `rediss://`",
            )
            .with_source(error)
        })?;
        Ok(())
    }

    /// Sets the time limit of each command.
    pub(crate) fn set_timeout(&mut self, limit: Duration) {
        self.timeout = limit;
    }

    /// Runs a script on the node that has its keys.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unavailable`](super::StoreErrorKind::Unavailable), if the server is unreachable, does not
    /// respond in time or returns an error; [`StoreErrorKind::Unreadable`](super::StoreErrorKind::Unreadable), if the
    /// key or the result has an unexpected type.
    ///
    /// # Cancel safety
    ///
    /// The script runs to its end on a separate task, even if the returned future is dropped.
    pub(crate) async fn invoke<T: FromRedisValue>(&self, call: Call) -> Result<T, StoreError> {
        let this = self.clone();
        // On a separate task: an unresponsive server is detected and its connection discarded even if the caller's
        // future is dropped first.
        let task = tokio::spawn(async move { this.run(&call).await });
        let reply = task.await.unwrap_or_else(|_| {
            let what = "did not complete the request: the runtime shut down";
            Err(StoreError::unavailable(what))
        })?;
        T::from_redis_value(reply).map_err(|error| map_error(error.into()))
    }

    /// Sends the command, follows redirections and retries broken connections. Sends it at most [`MAX_ATTEMPTS`] times.
    ///
    /// # Errors
    ///
    /// The mapped error of the server, or `Unavailable` if the attempts are used up because the cluster keeps
    /// redirecting.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe, as [`Node::execute`]. [`invoke`](Self::invoke) runs it on a task of its own.
    async fn run(&self, call: &Call) -> Result<Value, StoreError> {
        let slot = slot(call.first_key());
        // A node without a connection connects within the time limit of the first command.
        let mut node = self.node(slot)?;
        let (mut full_script, mut is_asking, mut broken) = (false, false, 0);
        for _ in 0..MAX_ATTEMPTS {
            let task = node
                .execute(call.command(full_script), is_asking, self.timeout)
                .await;
            let error = match task {
                Ok(reply) => return Ok(reply),
                Err(Failed::Answer(error)) => error,
                // A server or a load balancer closes idle connections, and in a cluster another node may own the slot
                // by now. Only connection errors are retried, never timeouts, at most once for each configured node.
                Err(Failed::Broken(error))
                    if error.kind() == ErrorKind::Io && broken < self.seeds.len() =>
                {
                    broken += 1;
                    self.evict(&node);
                    (node, is_asking) = (self.node(slot)?, false);
                    continue;
                }
                Err(failed) => return Err(self.failed(&node, failed)),
            };
            match error.kind() {
                // The server does not have the script in its cache: the next attempt sends its text.
                ErrorKind::Server(ServerErrorKind::NoScript) if !full_script => full_script = true,
                // `MOVED` is permanent, `ASK` applies to this command only.
                ErrorKind::Server(kind @ (ServerErrorKind::Moved | ServerErrorKind::Ask)) => {
                    let Some(address) = redirected(&error, node.address()) else {
                        return Err(map_error(error));
                    };
                    is_asking = kind == ServerErrorKind::Ask;
                    // The routes change only after MOVED. ASK applies to one command while a slot is in migration.
                    let mut routes = lock(&self.routes);
                    if !is_asking {
                        routes.moved(slot, address.clone());
                    }
                    node = routes
                        .node_at(address, &self.seeds[0], self.on_push.as_ref())
                        .map_err(map_error)?;
                }
                // A slot is in migration, and its keys are spread over two nodes.
                ErrorKind::Server(ServerErrorKind::TryAgain) => {
                    sleep(RETRY_INTERVAL).await;
                    (node, is_asking) = (self.node(slot)?, false);
                }
                _ => return Err(map_error(error)),
            }
        }
        Err(StoreError::unavailable(
            "is a cluster that is being reconfigured",
        ))
    }

    /// Subscribes to a channel until the connection breaks.
    ///
    /// In a cluster it uses the node of the channel's slot if that is known. Any node would do, because nodes forward
    /// published messages to each other.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unavailable`](super::StoreErrorKind::Unavailable), if the server is unreachable or rejects the
    /// subscription.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, it may leave a subscription. Its messages are then passed to the callback as usual.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<(), StoreError> {
        let node = self.node(slot(channel))?;
        let subscribed = node.subscribe(channel, self.timeout).await;
        subscribed.map_err(|failed| self.failed(&node, failed))
    }

    /// Unsubscribes from a channel.
    ///
    /// # Errors
    ///
    /// As for [`subscribe`](Self::subscribe). Without a connection there is no subscription, and the call succeeds.
    pub(crate) async fn unsubscribe(&self, channel: &str) -> Result<(), StoreError> {
        let node = self.node(slot(channel))?;
        let unsubscribed = node.unsubscribe(channel, self.timeout).await;
        unsubscribed.map_err(|failed| self.failed(&node, failed))
    }

    /// Returns the node for a slot. With TLS it first checks that rustls has a crypto provider, because rustls would
    /// panic.
    fn node(&self, slot: u16) -> Result<Arc<Node>, StoreError> {
        #[cfg(feature = "redis-tls")]
        if self.needs_tls() && !crate::crypto::is_determined() {
            return Err(StoreError::unavailable(NO_PROVIDER));
        }
        let mut routes = lock(&self.routes);
        let node = routes.node(slot, &self.seeds, self.on_push.as_ref());
        node.map_err(map_error)
    }

    /// Returns whether any configured URL uses TLS.
    ///
    /// A node that a redirection names uses TLS if the node that sent the redirection does.
    #[cfg(feature = "redis-tls")]
    fn needs_tls(&self) -> bool {
        let tls = |info: &ConnectionInfo| matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        self.seeds.iter().any(tls)
    }

    /// Converts a failure to an error. After a broken connection or a timeout it also drops the node from the routes.
    ///
    /// Errors that the server returned leave the routes alone.
    fn failed(&self, node: &Node, failed: Failed) -> StoreError {
        match failed {
            Failed::Answer(error) => map_error(error),
            Failed::Broken(error) => {
                self.evict(node);
                map_error(error)
            }
            Failed::Timeout => {
                self.evict(node);
                StoreError::timeout(self.timeout)
            }
        }
    }

    /// Drops a failed node from the routes.
    fn evict(&self, node: &Node) {
        lock(&self.routes).evict(node, &self.seeds);
    }
}

/// Maps an error of the Redis client to a [`StoreError`] with a remedy.
///
/// Errors that mean a foreign value become `Unreadable`, all others `Unavailable`.
fn map_error(error: RedisError) -> StoreError {
    let what = match (error.kind(), error.code()) {
        (_, Some("WRONGTYPE")) | (ErrorKind::UnexpectedReturnType, _) => {
            return StoreError::unreadable(
                "contains a value of another type under a key of this crate",
            )
            .with_source(error);
        }
        (_, Some("OOM")) => "is out of memory",
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
            "rejected the user and password"
        }
        (ErrorKind::RESP3NotSupported, _) => {
            "did not accept HELLO 3: user and password are missing, or it is older than Redis 6"
        }
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
            "does not allow its user this command; the guide `docs::fleet` lists the required ACL"
        }
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => {
            "is a replica, and cannot be written to"
        }
        (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => "is loading its data",
        (ErrorKind::Server(ServerErrorKind::ClusterDown), _) => {
            "is a cluster without a node for some of its slots"
        }
        (ErrorKind::Io, _) => "cannot be reached, or the connection broke",
        _ => "returned an error",
    };
    StoreError::unavailable(what).with_source(error)
}

#[cfg(feature = "redis-tls")]
const NO_PROVIDER: &str = "cannot be reached over TLS: this program has no crypto provider for it, or more than one; \
                           install one for the process (rustls' `CryptoProvider::install_default`), or enable one of \
                           the features `ring` and `aws-lc-rs`";
/// Maximum number of times that one call is sent, including redirections and retries.
const MAX_ATTEMPTS: usize = 16;
/// Delay before a retry while keys are in migration.
const RETRY_INTERVAL: Duration = Duration::from_millis(15);
