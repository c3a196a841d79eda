//! The connection to Redis: made at the first use, and made again when it breaks.

use std::time::Duration;

use redis::{
    Client, ErrorKind, FromRedisValue, RedisError, ScriptInvocation, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::time::timeout;

use super::StoreError;
use crate::sync::{Mutex, lock};

pub(super) struct Connection {
    client: Client,
    limit: Duration,
    /// Multiplexed, and shared by all who ask. None before the first use and after a failure.
    manager: Mutex<Option<ConnectionManager>>,
}

impl Connection {
    pub(super) fn new(url: &str) -> Result<Self, StoreError> {
        // The library's error may repeat the URL with its password.
        let client = Client::open(url).map_err(|_| {
            StoreError::configuration(
                "has a URL that cannot be read: `redis://user:password@host:port/database`, or `rediss://` with the \
                 feature `redis-tls`",
            )
        })?;
        Ok(Self {
            client,
            limit: Duration::from_millis(250),
            manager: Mutex::new(None),
        })
    }

    pub(super) fn limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Runs a script, twice if the connection was found broken: a server or a balancer ends those that are not in use.
    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        script: &mut ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        match self.invoke_once(script).await {
            Err(Failed::Broken(_)) => {}
            Err(Failed::Final(error)) => return Err(error),
            Ok(done) => return Ok(done),
        }
        self.invoke_once(script)
            .await
            .map_err(|failed| match failed {
                Failed::Broken(error) | Failed::Final(error) => error,
            })
    }

    async fn invoke_once<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Failed> {
        let mut manager = self.manager().map_err(|error| Failed::Final(told(error)))?;
        let answer = timeout(self.limit, script.invoke_async(&mut manager)).await;
        match answer {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) if is_an_answer(&error) => Err(Failed::Final(told(error))),
            Ok(Err(error)) => {
                self.discard();
                let broken = error.is_connection_dropped();
                let error = told(error);
                Err(match broken {
                    true => Failed::Broken(error),
                    false => Failed::Final(error),
                })
            }
            Err(_) => {
                self.discard();
                let limit = self.limit;
                Err(Failed::Final(StoreError::timeout(limit)))
            }
        }
    }

    fn manager(&self) -> Result<ConnectionManager, RedisError> {
        let mut manager = lock(&self.manager);
        if let Some(manager) = &*manager {
            return Ok(manager.clone());
        }
        // All is limited by `invoke_once`.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let made = ConnectionManager::new_lazy_with_config(self.client.clone(), config)?;
        Ok(manager.insert(made).clone())
    }

    fn discard(&self) {
        let former = lock(&self.manager).take();
        // Closed outside the lock.
        drop(former);
    }
}

enum Failed {
    Broken(StoreError),
    Final(StoreError),
}

/// Whether the server answered, so that the connection is in order.
fn is_an_answer(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType
    )
}

fn told(error: RedisError) -> StoreError {
    let what = match (error.kind(), error.code()) {
        (_, Some("WRONGTYPE")) | (ErrorKind::UnexpectedReturnType, _) => {
            return StoreError::unreadable("holds something of another type under our key")
                .with_source(error);
        }
        (_, Some("OOM")) => "is out of memory",
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
            "refused user and password"
        }
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
            "does not let its user do that; the guide `docs::fleet` has the ACL"
        }
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => {
            "is a replica, and cannot be written to"
        }
        (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => "is loading its data",
        (ErrorKind::Io, _) => "cannot be reached, or the connection broke",
        _ => "answered with an error",
    };
    StoreError::unavailable(what).with_source(error)
}
