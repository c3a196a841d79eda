//! The stack that is tested.
#![expect(
    clippy::disallowed_methods,
    reason = "the clock of the layers, in the test's time"
)]

use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use tokio::time::Instant;
use tower::{Layer, ServiceBuilder, service_fn, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, Clock, M2mLayer, RateLimitRetryLayer,
    TokenEndpoint,
    client_credentials::{Secret, SecretSource, TokenError, TokenEvent, TokenHandle},
    rate_limit_retry::QuotaHandle,
    replay::ReplayableBody,
    test_util::Probe,
};

use crate::{
    log::What,
    servers::{World, secret},
};

pub(crate) type Service = BoxCloneSyncService<Request<Payload>, Response<Empty<Bytes>>, BoxError>;

pub(crate) struct Stack {
    pub(crate) service: Service,
    pub(crate) probe: Probe<Request<Payload>, Response<Empty<Bytes>>>,
    pub(crate) tokens: TokenHandle,
    pub(crate) quotas: QuotaHandle,
}

impl Stack {
    pub(crate) fn new(world: &World) -> Self {
        let setup = world.setup();
        let api = world.clone();
        let probe =
            Probe::new(move |request: Request<Payload>| api.serve(&request)).permits(setup.permits);

        let issuer = world.clone();
        let auth = ClientAuth::basic("client", ToldSecret(world.clone()));
        let endpoint = TokenEndpoint::new("https://issuer.test/token".parse().unwrap(), auth)
            .service(service_fn(move |request| issuer.clone().grant(request)));
        let sink = world.clone();
        let credentials = ClientCredentialsLayer::builder(endpoint, API.parse().unwrap())
            .clock(TestClock(world.clone()))
            .seed(7)
            .on_event(move |event| match event {
                TokenEvent::FetchStarted { reason, .. } => sink.write(What::FetchStarted(*reason)),
                TokenEvent::Fetched { .. } => sink.write(What::Fetched),
                TokenEvent::FetchFailed { error, .. } => sink.write(What::FetchFailed {
                    transient: error.is_transient(),
                }),
                _ => {}
            })
            .build();
        let tokens = credentials.handle();

        let mut limits = RateLimitRetryLayer::builder()
            .clock(TestClock(world.clone()))
            .seed(7)
            .max_wait(setup.max_wait);
        if let Some(deadline) = setup.deadline {
            limits = limits.deadline(deadline);
        }
        let limits = limits.build();
        let quotas = limits.handle();

        let service = if setup.apart {
            let stack = ServiceBuilder::new().layer(limits).layer(credentials);
            BoxCloneSyncService::new(stack.service(probe.clone()))
        } else {
            BoxCloneSyncService::new(M2mLayer::new(limits, credentials).layer(probe.clone()))
        };
        Self {
            service,
            probe,
            tokens,
            quotas,
        }
    }
}

/// A body that can be sent again, or not.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) once: bool,
}

impl ReplayableBody for Payload {
    fn try_clone(&self) -> Option<Self> {
        (!self.once).then_some(Self { once: false })
    }
}

struct TestClock(World);

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_clock(&self) -> SystemTime {
        self.0.client_wall()
    }
}

struct ToldSecret(World);

impl SecretSource for ToldSecret {
    async fn read(&self) -> Result<Secret, TokenError> {
        Ok(secret(self.0.state().published_secret).into())
    }
}

pub(crate) const API: &str = "https://api.test";
