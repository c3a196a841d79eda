//! A fleet: one issuer, one API, one store, and processes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::task::JoinSet;
use tower::{ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{TokenEvent, TokenHandle, TokenSource},
    test_util::{Issuer, MemoryTokenStore},
};

type Body = Full<bytes::Bytes>;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const LEASE: Duration = Duration::from_secs(5);

pub(crate) struct World {
    pub(crate) issuer: Issuer,
    pub(crate) store: MemoryTokenStore,
}

/// What one process of the fleet has.
pub(crate) struct Process {
    pub(crate) handle: TokenHandle,
    api: BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>,
    events: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// An issuer that takes a second for each token, which lives for 300 s, and a store that answers in 2 ms.
    pub(crate) fn new() -> Self {
        let issuer = Issuer::builder()
            .client("id", "secret")
            .client("id2", "secret")
            .latency(SECOND)
            .in_process();
        let store = MemoryTokenStore::new();
        store.set_latency(Duration::from_millis(2));
        Self { issuer, store }
    }

    pub(crate) fn endpoint(&self, auth: ClientAuth) -> TokenEndpoint {
        TokenEndpoint::new(self.issuer.token_url().parse().unwrap(), auth)
            .service(self.issuer.service())
    }

    pub(crate) fn process(&self) -> Process {
        self.process_with(self.endpoint(ClientAuth::basic("id", "secret")))
    }

    pub(crate) fn fleet(&self, size: usize) -> Vec<Process> {
        (0..size).map(|_| self.process()).collect()
    }

    /// A process with this source, whose API accepts the issuer's valid tokens.
    pub(crate) fn process_with(&self, source: impl TokenSource) -> Process {
        let tokens = self.issuer.tokens();
        self.process_at(source, move |token| tokens.is_valid(token))
    }

    pub(crate) fn process_at(
        &self,
        source: impl TokenSource,
        accepts: impl Fn(&str) -> bool + Clone + Send + Sync + 'static,
    ) -> Process {
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let origin = "https://api.example".parse().unwrap();
        let layer = ClientCredentialsLayer::builder(source, origin)
            .allow_origin("https://other.example".parse().unwrap())
            .store(self.store.clone())
            .store_lease(LEASE)
            .on_event(move |event| {
                let name = match event {
                    TokenEvent::LoadedFromStore { .. } => "adopted",
                    TokenEvent::Fetched { .. } => "fetched",
                    TokenEvent::FetchFailed { .. } => "failed",
                    TokenEvent::RefreshSuppressed { .. } => "held back",
                    TokenEvent::StoreFailed { error, .. } => &error.to_string(),
                    TokenEvent::StoreRecovered { .. } => "store recovered",
                    _ => return,
                };
                sink.lock().unwrap().push(name.to_owned());
            })
            .build();
        let handle = layer.handle();
        let api = service_fn(move |request: Request<Body>| {
            let value = request.headers()[header::AUTHORIZATION].to_str().unwrap();
            let accepted = accepts(value.strip_prefix("Bearer ").unwrap());
            async move {
                let mut response = Response::new(Body::default());
                if !accepted {
                    *response.status_mut() = StatusCode::UNAUTHORIZED;
                }
                Ok::<_, BoxError>(response)
            }
        });
        Process {
            handle,
            api: BoxCloneSyncService::new(ServiceBuilder::new().layer(layer).service(api)),
            events,
        }
    }

    pub(crate) fn token_requests(&self) -> u64 {
        self.issuer.stats().requests
    }
}

impl Process {
    /// Sends one request; the status, or an error's text.
    pub(crate) async fn send(&self) -> Result<StatusCode, String> {
        send(self.api.clone(), "https://api.example/x").await
    }

    /// The same, to the other origin that tokens may go to.
    pub(crate) async fn send_elsewhere(&self) -> Result<StatusCode, String> {
        send(self.api.clone(), "https://other.example/x").await
    }

    /// Events since the last call.
    pub(crate) fn take_events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

async fn send(
    api: BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>,
    uri: &str,
) -> Result<StatusCode, String> {
    let request = Request::get(uri).body(Body::default()).unwrap();
    let response = api.oneshot(request).await;
    response
        .map(|response| response.status())
        .map_err(|error| error.to_string())
}

/// Each process sends one request at the same time.
pub(crate) async fn all_send(fleet: &[Process]) -> Vec<Result<StatusCode, String>> {
    let mut sent = JoinSet::new();
    for process in fleet {
        sent.spawn(send(process.api.clone(), "https://api.example/x"));
    }
    sent.join_all().await
}

/// Each process sends one request at the same time, and all succeed.
pub(crate) async fn all_succeed(fleet: &[Process]) {
    for sent in all_send(fleet).await {
        assert_eq!(sent, Ok(StatusCode::OK));
    }
}
