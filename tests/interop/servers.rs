//! Where the servers are, and a client whose requests are counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client as Hyper, rt::TokioExecutor};
use serde_json::Value;
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{TokenEvent, TokenHandle},
};

/// What `run.sh` reports about the servers that it started.
#[derive(Clone)]
pub(crate) struct Servers(Arc<Value>);

impl Servers {
    pub(crate) fn from_env() -> Self {
        let servers = std::env::var("INTEROP_SERVERS");
        let servers = servers.expect("run `bash tests/interop/run.sh`");
        Self(Arc::new(serde_json::from_str(&servers).unwrap()))
    }

    /// What `server` calls `name`: an origin, mostly.
    pub(crate) fn get(&self, server: &str, name: &str) -> String {
        let found = self.0[server][name].as_str();
        found
            .unwrap_or_else(|| panic!("no {name} of {server}"))
            .to_owned()
    }

    /// Everything that is reported about `server`.
    pub(crate) fn all(&self, server: &str) -> Vec<(String, String)> {
        let events = self.0[server].as_object().unwrap().iter();
        events
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect()
    }
}

/// What all clients are registered with.
pub(crate) const SECRET: &str = "a secret of more than thirty-two bytes";

pub(crate) type Inner = BoxCloneSyncService<Request<Full<Bytes>>, Response<Incoming>, BoxError>;

/// hyper-util's client, which counts.
pub(crate) fn http(sent: &Arc<AtomicUsize>) -> Inner {
    let sent = Arc::clone(sent);
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .map_err(BoxError::from)
            .map_request(move |request| {
                sent.fetch_add(1, Ordering::SeqCst);
                request
            })
            .service(Hyper::builder(TokioExecutor::new()).build_http()),
    )
}

/// A client of one API.
#[derive(Clone)]
pub(crate) struct Client {
    service: Inner,
    api: String,
    pub(crate) tokens: TokenHandle,
    sent: Arc<AtomicUsize>,
    fetched: Arc<AtomicUsize>,
}

impl Client {
    pub(crate) fn new(endpoint: TokenEndpoint, api: String) -> Self {
        let (sent, fetched) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&fetched);
        let layer = ClientCredentialsLayer::builder(endpoint, api.parse().unwrap())
            .on_event(move |event| {
                if matches!(event, TokenEvent::FetchStarted { .. }) {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            })
            .build();
        Self {
            tokens: layer.handle(),
            service: BoxCloneSyncService::new(
                ServiceBuilder::new().layer(layer).service(http(&sent)),
            ),
            api,
            sent,
            fetched,
        }
    }

    /// The status of a request for `path`.
    pub(crate) async fn get(&self, path: &str) -> StatusCode {
        let request = Request::get(format!("{}{path}", self.api)).body(Full::default());
        let service = self.service.clone();
        let response = service.oneshot(request.unwrap()).await;
        response.unwrap_or_else(|error| panic!("{error}")).status()
    }

    /// Asks for `path` every 50 ms, for `time`, and returns every status but 200.
    pub(crate) async fn get_for(&self, time: Duration, path: &str) -> Vec<StatusCode> {
        let mut others = Vec::new();
        let end = tokio::time::sleep(time);
        tokio::pin!(end);
        loop {
            match self.get(path).await {
                StatusCode::OK => {}
                other => others.push(other),
            }
            tokio::select! {
                () = &mut end => return others,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }

    /// How many requests the API got, and how many the issuer.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let [sent, fetched] = [&self.sent, &self.fetched].map(|n| n.load(Ordering::SeqCst));
        (sent, fetched)
    }
}
