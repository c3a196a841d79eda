//! Processes that share quotas: each is a layer with a store and a connection of its own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::task::{JoinHandle, JoinSet};
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, RateLimitRetryLayer,
    rate_limit_retry::{RateLimitEvent, RateLimitRetry, RedisQuotaStore, StoredQuotas},
    test_util::{Api, ApiBody, ApiBuilder},
};

use crate::{server::Server, world::keys};

type Body = Full<Bytes>;
type Inner = BoxCloneSyncService<Request<Body>, Response<ApiBody>, BoxError>;

pub(crate) struct Fleet {
    pub(crate) api: Api,
    pub(crate) redis: Server,
}

pub(crate) struct Process {
    service: RateLimitRetry<Inner>,
    events: Arc<Mutex<Vec<String>>>,
}

impl Fleet {
    pub(crate) fn new(api: ApiBuilder) -> Self {
        Self::with(Server::start(), api)
    }

    pub(crate) fn with(redis: Server, api: ApiBuilder) -> Self {
        Self {
            api: api.in_process(),
            redis,
        }
    }

    pub(crate) fn store(&self) -> RedisQuotaStore {
        RedisQuotaStore::new(self.redis.url(), keys()).unwrap()
    }

    pub(crate) fn process(&self) -> Process {
        self.process_with(StoredQuotas::new("fleet", self.store()))
    }

    pub(crate) fn process_with(&self, quotas: StoredQuotas) -> Process {
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let layer = RateLimitRetryLayer::builder()
            .store(quotas)
            .on_event(move |event| {
                let what = match event {
                    RateLimitEvent::RemoteHold { .. } => "held",
                    RateLimitEvent::StoreFailed { error, .. } => &error.to_string(),
                    RateLimitEvent::StoreRecovered { .. } => "recovered",
                    _ => return,
                };
                sink.lock().unwrap().push(what.to_owned());
            })
            .build();
        let service = ServiceExt::<Request<Body>>::map_err(self.api.service(), BoxError::from);
        Process {
            service: layer.layer(BoxCloneSyncService::new(service)),
            events,
        }
    }
}

impl Process {
    /// Sends one request, on a task of its own.
    pub(crate) fn send(&self) -> JoinHandle<Result<Response<ApiBody>, BoxError>> {
        let request = Request::get("https://api.test/").body(Body::default());
        tokio::spawn(self.service.clone().oneshot(request.unwrap()))
    }

    pub(crate) async fn ok(&self) {
        let response = self.send().await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }

    pub(crate) fn take_events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    /// Sends requests until the last event is one of these.
    pub(crate) async fn ok_until(&self, what: &[&str]) {
        let mut tries = 0;
        while self
            .events
            .lock()
            .unwrap()
            .last()
            .is_none_or(|last| !what.contains(&&**last))
        {
            self.ok().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            tries += 1;
            assert!(tries < 1000, "{:?} instead of {what:?}", self.take_events());
        }
    }
}

/// Each process with `workers` that send one request after the other.
pub(crate) async fn work(fleet: Vec<Process>, workers: usize, requests: usize) -> Vec<Process> {
    let mut tasks = JoinSet::new();
    for process in fleet {
        tasks.spawn(async move {
            let mut waves = Vec::new();
            for _ in 0..workers {
                waves.push(requests);
            }
            let mut sent: Vec<_> = waves.iter().map(|_| process.send()).collect();
            for _ in 1..requests {
                let mut next = Vec::new();
                for call in sent {
                    assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
                    next.push(process.send());
                }
                sent = next;
            }
            for call in sent {
                assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
            }
            process
        });
    }
    tasks.join_all().await
}
