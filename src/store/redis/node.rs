//! The connection to one server. It connects on first use, and reconnects after a failure.
//!
//! The connection is multiplexed: all callers share it, and the server answers in the order of the commands. A timeout
//! therefore discards the whole connection, because a server that has not responded yet delays every later command.

use std::{convert::Infallible, future::Future, time::Duration};

use redis::{
    Client, Cmd, ConnectionAddr, ErrorKind, Pipeline, PushInfo, PushKind, RedisError, Value,
    aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig},
    from_redis_value,
};
use tokio::time::timeout;

use super::heard::OnPush;
use crate::sync::{Mutex, lock};

/// One server, with at most one connection to it.
///
/// The connection is created on first use and dropped after a failure; `Node` itself stays in the routes until it is
/// evicted.
pub(super) struct Node {
    /// Address and credentials.
    client: Client,
    /// Callback for published messages.
    on_push: Option<OnPush>,
    /// Multiplexed connection, shared by all callers. `None` before the first use and after a failure. The lock is
    /// never held across an `await`.
    manager: Mutex<Option<ConnectionManager>>,
}

/// Why a command failed.
///
/// Only a command that failed as [`Broken`](Self::Broken) is sent again: a timeout has used up the time of the call.
pub(super) enum Failed {
    /// The server returned an error. The connection still works.
    Answer(RedisError),
    /// The connection broke or was rejected, and has been discarded.
    Broken(RedisError),
    /// The server did not respond in time. The connection has been discarded.
    Timeout,
}

impl Node {
    /// Creates a node without connecting.
    pub(super) fn new(client: Client, on_push: Option<OnPush>) -> Self {
        Self {
            client,
            on_push,
            manager: Mutex::new(None),
        }
    }

    /// Returns the server's address.
    pub(super) fn address(&self) -> &ConnectionAddr {
        self.client.get_connection_info().addr()
    }

    /// Executes a command. With `is_asking`, sends `ASKING` first, for a slot that is in migration to this node.
    ///
    /// # Errors
    ///
    /// [`Failed`], which determines whether the connection is still usable.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: without its time limit an unresponsive connection would stay in use. `Connection::invoke`
    /// therefore runs it on a task of its own.
    pub(super) async fn execute(
        &self,
        command: Cmd,
        is_asking: bool,
        limit: Duration,
    ) -> Result<Value, Failed> {
        // In one write, so that no other caller's command comes between the two on the shared connection.
        let mut pipeline = Pipeline::new();
        if is_asking {
            pipeline.cmd("ASKING");
        }
        pipeline.add_command(command);
        let mut manager = self.manager().map_err(Failed::Broken)?;
        self.with_timeout(limit, async {
            let replies = manager.req_packed_commands(&pipeline, usize::from(is_asking), 1);
            let reply = replies.await?.pop().unwrap_or(Value::Nil);
            reply.extract_error()
        })
        .await
    }

    /// Subscribes to a channel until the connection breaks.
    ///
    /// Must be repeated after each lost connection; the callback reports that with `None`.
    ///
    /// # Errors
    ///
    /// [`Failed`], as for [`execute`](Self::execute).
    pub(super) async fn subscribe(&self, channel: &str, limit: Duration) -> Result<(), Failed> {
        let mut manager = self.manager().map_err(Failed::Broken)?;
        self.with_timeout(limit, manager.subscribe(channel)).await
    }

    /// Unsubscribes from a channel. Does nothing if there is no connection.
    ///
    /// # Errors
    ///
    /// [`Failed`], as for [`execute`](Self::execute).
    pub(super) async fn unsubscribe(&self, channel: &str, limit: Duration) -> Result<(), Failed> {
        let manager = lock(&self.manager).clone();
        match manager {
            Some(mut manager) => self.with_timeout(limit, manager.unsubscribe(channel)).await,
            None => Ok(()),
        }
    }

    /// Waits for the operation `work` for at most `limit`. Discards the connection on a timeout or a connection error.
    ///
    /// The connection is shared, so discarding it also fails the commands of other callers that wait for it.
    async fn with_timeout<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, Failed> {
        match timeout(limit, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) if is_server_error(&error) => Err(Failed::Answer(error)),
            Ok(Err(error)) => {
                self.discard();
                Err(Failed::Broken(error))
            }
            Err(_) => {
                self.discard();
                Err(Failed::Timeout)
            }
        }
    }

    /// Returns the current connection, or creates a lazy one.
    fn manager(&self) -> Result<ConnectionManager, RedisError> {
        // The lock is held while the manager is created, which does not connect. So concurrent callers share one
        // connection.
        let mut manager = lock(&self.manager);
        if let Some(manager) = &*manager {
            return Ok(manager.clone());
        }
        // `with_timeout` limits the whole operation, so the client's own timeouts and retries are disabled.
        let mut config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(None)
            .set_response_timeout(None);
        if let Some(on_push) = self.on_push.clone() {
            config = config.set_push_sender(move |push: PushInfo| {
                dispatch_push(&push, &*on_push);
                Ok::<_, Infallible>(())
            });
        }
        let made = ConnectionManager::new_lazy_with_config(self.client.clone(), config)?;
        Ok(manager.insert(made).clone())
    }

    /// Discards the connection, and reports that messages may have been lost.
    ///
    /// Callers that hold a clone of the connection fail on their own.
    fn discard(&self) {
        let former = lock(&self.manager).take();
        // The callback runs, and the connection closes, after the lock is released.
        if former.is_some()
            && let Some(on_push) = &self.on_push
        {
            on_push(None);
        }
        drop(former);
    }
}

/// Passes a push message of the server to the callback.
fn dispatch_push(push: &PushInfo, on_push: &(dyn Fn(Option<&str>) + Send + Sync)) {
    match push.kind {
        PushKind::Disconnection => on_push(None),
        PushKind::Message => {
            let channel = push.data.first().cloned();
            if let Some(Ok(channel)) = channel.map(from_redis_value::<String>) {
                on_push(Some(&channel));
            }
        }
        _ => {}
    }
}

/// Returns whether the server itself returned the error, so that the connection still works. Failed authentication is
/// excluded: a new connection may authenticate with current credentials.
fn is_server_error(error: &RedisError) -> bool {
    !matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
        && matches!(
            error.kind(),
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType
        )
}
