//! The connection to one server: made at the first use, and made again when it breaks.

use std::{convert::Infallible, future::Future, time::Duration};

use redis::{
    Client, Cmd, ConnectionAddr, ErrorKind, Pipeline, PushInfo, PushKind, RedisError, Value,
    aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig},
    from_redis_value,
};
use tokio::time::timeout;

use super::heard::Heard;
use crate::sync::{Mutex, lock};

pub(super) struct Node {
    client: Client,
    heard: Option<Heard>,
    /// Multiplexed, and shared by all who ask. None before the first use and after a failure.
    manager: Mutex<Option<ConnectionManager>>,
}

pub(super) enum Failed {
    /// The server answered with an error; the connection is in order.
    Answer(RedisError),
    /// The connection is given up.
    Broken(RedisError),
    /// The same, because no answer has come in time.
    Silent,
}

impl Node {
    pub(super) fn new(client: Client, heard: Option<Heard>) -> Self {
        Self {
            client,
            heard,
            manager: Mutex::new(None),
        }
    }

    pub(super) fn address(&self) -> &ConnectionAddr {
        self.client.get_connection_info().addr()
    }

    /// Carries out a command; with `asking`, for a slot that is just being moved here.
    pub(super) async fn ask(
        &self,
        command: Cmd,
        asking: bool,
        limit: Duration,
    ) -> Result<Value, Failed> {
        // Both in one message, so that nothing comes between them.
        let mut pipeline = Pipeline::new();
        if asking {
            pipeline.cmd("ASKING");
        }
        pipeline.add_command(command);
        let mut manager = self.manager().map_err(Failed::Broken)?;
        self.once(limit, async {
            let answers = manager.req_packed_commands(&pipeline, usize::from(asking), 1);
            let answer = answers.await?.pop().unwrap_or(Value::Nil);
            answer.extract_error()
        })
        .await
    }

    /// Listens on a channel until the connection breaks.
    pub(super) async fn subscribe(&self, channel: &str, limit: Duration) -> Result<(), Failed> {
        let mut manager = self.manager().map_err(Failed::Broken)?;
        self.once(limit, manager.subscribe(channel)).await
    }

    /// Listens no longer on a channel, if there is a connection.
    pub(super) async fn unsubscribe(&self, channel: &str, limit: Duration) -> Result<(), Failed> {
        let manager = lock(&self.manager).clone();
        match manager {
            Some(mut manager) => self.once(limit, manager.unsubscribe(channel)).await,
            None => Ok(()),
        }
    }

    async fn once<T>(
        &self,
        limit: Duration,
        asked: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, Failed> {
        match timeout(limit, asked).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) if is_an_answer(&error) => Err(Failed::Answer(error)),
            Ok(Err(error)) => {
                self.discard();
                Err(Failed::Broken(error))
            }
            Err(_) => {
                self.discard();
                Err(Failed::Silent)
            }
        }
    }

    fn manager(&self) -> Result<ConnectionManager, RedisError> {
        let mut manager = lock(&self.manager);
        if let Some(manager) = &*manager {
            return Ok(manager.clone());
        }
        // All is limited by `once`.
        let mut config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(None)
            .set_response_timeout(None);
        if let Some(heard) = self.heard.clone() {
            config = config.set_push_sender(move |push: PushInfo| {
                hear(&push, &*heard);
                Ok::<_, Infallible>(())
            });
        }
        let made = ConnectionManager::new_lazy_with_config(self.client.clone(), config)?;
        Ok(manager.insert(made).clone())
    }

    fn discard(&self) {
        let former = lock(&self.manager).take();
        // Closed outside the lock.
        if former.is_some()
            && let Some(heard) = &self.heard
        {
            heard(None);
        }
        drop(former);
    }
}

fn hear(push: &PushInfo, heard: &(dyn Fn(Option<&str>) + Send + Sync)) {
    match push.kind {
        PushKind::Disconnection => heard(None),
        PushKind::Message => {
            let channel = push.data.first().cloned();
            if let Some(Ok(channel)) = channel.map(from_redis_value::<String>) {
                heard(Some(&channel));
            }
        }
        _ => {}
    }
}

/// Whether the server answered, so that the connection is in order.
fn is_an_answer(error: &RedisError) -> bool {
    !matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
        && matches!(
            error.kind(),
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType
        )
}
