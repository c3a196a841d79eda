//! Processes that share a store: each is a layer with a connection of its own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::task::JoinSet;
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{
        AccessToken, RedisTokenStore, SecretBytes, TokenError, TokenEvent, TokenHandle,
    },
    store::StoreKeyring,
    test_util::Issuer,
};

use crate::server::Server;

pub(crate) struct World {
    pub(crate) issuer: Issuer,
    pub(crate) redis: Server,
}

pub(crate) struct Process {
    pub(crate) handle: TokenHandle,
    events: Arc<Mutex<Vec<String>>>,
}

pub(crate) fn key(byte: u8) -> SecretBytes {
    vec![byte; 32].into()
}

pub(crate) fn keys() -> StoreKeyring {
    StoreKeyring::new("a", key(1)).unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Server::start())
    }

    pub(crate) fn with(redis: Server) -> Self {
        let issuer = Issuer::builder()
            .client("id", "secret")
            .latency(Duration::from_millis(100));
        Self {
            issuer: issuer.in_process(),
            redis,
        }
    }

    pub(crate) fn endpoint(&self) -> TokenEndpoint {
        let auth = ClientAuth::basic("id", "secret");
        TokenEndpoint::new(self.issuer.token_url().parse().unwrap(), auth)
            .service(self.issuer.service())
    }

    pub(crate) fn store(&self) -> RedisTokenStore {
        RedisTokenStore::new(self.redis.url(), keys()).unwrap()
    }

    pub(crate) fn process(&self) -> Process {
        self.process_with(self.store())
    }

    pub(crate) fn fleet(&self, size: usize) -> Vec<Process> {
        (0..size).map(|_| self.process()).collect()
    }

    pub(crate) fn process_with(&self, store: RedisTokenStore) -> Process {
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let origin = "https://api.example".parse().unwrap();
        let layer = ClientCredentialsLayer::builder(self.endpoint(), origin)
            .store(store)
            .on_event(move |event| {
                let what = match event {
                    TokenEvent::LoadedFromStore { .. } => "adopted",
                    TokenEvent::Fetched { .. } => "fetched",
                    TokenEvent::FetchFailed { .. } => "failed",
                    TokenEvent::StoreFailed { error, .. } => &error.to_string(),
                    TokenEvent::StoreRecovered { .. } => "recovered",
                    _ => return,
                };
                sink.lock().unwrap().push(what.to_owned());
            })
            .build();
        Process {
            handle: layer.handle(),
            events,
        }
    }

    pub(crate) fn token_requests(&self) -> u64 {
        self.issuer.stats().requests
    }
}

impl Process {
    pub(crate) async fn token(&self) -> String {
        self.handle
            .token()
            .await
            .unwrap()
            .expose()
            .unwrap()
            .to_owned()
    }

    /// As if its token had come to its end.
    pub(crate) async fn next_token(&self) -> String {
        self.handle.invalidate();
        self.token().await
    }

    pub(crate) fn take_events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

/// The tokens of all processes, requested at the same time.
pub(crate) async fn all_tokens(fleet: &[Process]) -> Vec<Result<AccessToken, TokenError>> {
    let mut asked = JoinSet::new();
    for process in fleet {
        let handle = process.handle.clone();
        asked.spawn(async move { handle.token().await });
    }
    asked.join_all().await
}
