//! The connection to Redis: made at the first use, and made again when it breaks.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

#[cfg(feature = "redis-tls")]
use redis::TlsCertificates;
use redis::{
    Client, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo, ProtocolVersion,
    PushInfo, PushKind, RedisError, ScriptInvocation, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
    from_redis_value,
};
use tokio::time::timeout;

use super::StoreError;
use crate::sync::{Mutex, lock};

pub(crate) struct Connection {
    client: Client,
    limit: Duration,
    /// Multiplexed, and shared by all who ask. None before the first use and after a failure.
    manager: Mutex<Option<ConnectionManager>>,
    heard: Option<Heard>,
}

/// Called with the channel on which something was heard; without one when the connection has broken, and something may
/// have been missed.
type Heard = Arc<dyn Fn(Option<&str>) + Send + Sync>;

impl Connection {
    pub(crate) fn new(url: &str) -> Result<Self, StoreError> {
        Self::open(url, |info| info)
    }

    /// One that can [`subscribe`](Self::subscribe).
    pub(crate) fn listening(
        url: &str,
        heard: impl Fn(Option<&str>) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let connection = Self::open(url, |info| {
            let settings = info.redis_settings().clone();
            info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3))
        })?;
        Ok(Self {
            heard: Some(Arc::new(heard)),
            ..connection
        })
    }

    fn open(
        url: &str,
        set: impl FnOnce(ConnectionInfo) -> ConnectionInfo,
    ) -> Result<Self, StoreError> {
        let info = url.into_connection_info().map(set);
        // The library's error may repeat the URL with its password.
        let client = info.and_then(Client::open).map_err(|_| {
            StoreError::configuration(
                "has a URL that cannot be read: `redis://user:password@host:port/database`, or `rediss://` with the \
                 feature `redis-tls`",
            )
        })?;
        Ok(Self {
            client,
            limit: Duration::from_millis(250),
            manager: Mutex::new(None),
            heard: None,
        })
    }

    /// Believes what this certificate, in PEM, has signed, and nothing else.
    #[cfg(feature = "redis-tls")]
    pub(crate) fn trust(&mut self, root: Vec<u8>) -> Result<(), StoreError> {
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(root),
        };
        let info = self.client.get_connection_info().clone();
        self.client = Client::build_with_tls(info, certificates).map_err(|error| {
            StoreError::configuration(
                "has a root certificate that is not PEM, or a URL that is not `rediss://`",
            )
            .with_source(error)
        })?;
        Ok(())
    }

    pub(crate) fn limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Runs a script, twice if the connection was found broken: a server or a balancer ends those that are not in use.
    pub(crate) async fn invoke<T: FromRedisValue>(
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
        self.once(script.invoke_async(&mut manager)).await
    }

    /// Listens on a channel until the connection breaks.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<(), StoreError> {
        let mut manager = self.manager().map_err(told)?;
        let subscribed = self.once(manager.subscribe(channel)).await;
        subscribed.map_err(|failed| match failed {
            Failed::Broken(error) | Failed::Final(error) => error,
        })
    }

    async fn once<T>(
        &self,
        asked: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, Failed> {
        match timeout(self.limit, asked).await {
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

enum Failed {
    Broken(StoreError),
    Final(StoreError),
}

/// Whether the server answered, so that the connection is in order.
fn is_an_answer(error: &RedisError) -> bool {
    !matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
        && matches!(
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
        (ErrorKind::RESP3NotSupported, _) => {
            "did not accept HELLO 3: user and password are missing, or it is older than Redis 6"
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
