//! The orchestrator of the AWS SDK, with its adaptive retries by the rules of 2026 ("2.1"), and up to 100 attempts.
//!
//! The classifier is ours: it gives `Retry-After` to the SDK, which by itself reads `x-amz-retry-after` only.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_smithy_async::{rt::sleep::TokioSleep, time::TimeSource};
use aws_smithy_runtime::client::{
    orchestrator::operation::Operation, retries::classifiers::HttpStatusCodeClassifier,
};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        interceptors::context::InterceptorContext,
        orchestrator::{HttpRequest, OrchestratorError},
        retries::classifiers::{ClassifyRetry, RetryAction},
    },
    http::{Response, StatusCode},
};
use aws_smithy_types::{
    body::SdkBody,
    retry::{ErrorKind, RetryConfig, RetrySpec},
    timeout::TimeoutConfig,
};
use tower_m2m::Clock;

use super::{Client, JOB, Sending, Setup};
use crate::{job::Job, world::Skewed};

#[derive(Debug)]
struct Throttled;

impl std::fmt::Display for Throttled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Throttled {}

/// The input is the number of the job.
struct Aws(Operation<usize, (), Throttled>);

impl Client for Aws {
    fn job<'a>(&'a self, job: &'a Job) -> Sending<'a> {
        Box::pin(async { self.0.invoke(job.number).await.is_ok() })
    }
}

struct Connector(Setup);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let setup = self.0.clone();
        HttpConnectorFuture::new(async move {
            let number = request
                .headers()
                .get(JOB)
                .expect("every request has its job");
            let job = setup.world.job(number);
            let reply = setup.exchange(job).await.map(|()| SdkBody::empty());
            Ok(Response::try_from(reply).expect("headers of digits"))
        })
    }
}

#[derive(Debug)]
struct Time(Skewed);

impl TimeSource for Time {
    fn now(&self) -> SystemTime {
        self.0.wall_clock()
    }
}

#[derive(Debug)]
struct RetryAfter;

impl ClassifyRetry for RetryAfter {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(response) = context.response().filter(|r| r.status().as_u16() == 429) else {
            return RetryAction::NoActionIndicated;
        };
        let hint = response.headers().get("retry-after");
        match hint.and_then(|seconds| seconds.parse().ok()) {
            Some(seconds) => RetryAction::retryable_error_with_explicit_delay(
                ErrorKind::ThrottlingError,
                Duration::from_secs(seconds),
            ),
            None => RetryAction::throttling_error(),
        }
    }

    fn name(&self) -> &'static str {
        "429 and Retry-After"
    }
}

/// The SDK stores what it learns in a static, by the service's name: another name for each client.
static CLIENTS: AtomicUsize = AtomicUsize::new(0);

pub fn client(setup: Setup) -> Arc<dyn Client> {
    // For the SDK's jitter; each run has one thread.
    fastrand::seed(setup.seed);
    let retries = RetryConfig::adaptive()
        .with_max_attempts(100)
        .with_retry_spec(RetrySpec::v2_1());
    let time = Time(setup.clock);
    let connector = SharedHttpConnector::new(Connector(setup));
    let operation = Operation::builder()
        .service_name(format!("arena-{}", CLIENTS.fetch_add(1, Ordering::Relaxed)))
        .operation_name("job")
        .endpoint_url("http://api.example.com")
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .no_auth()
        .standard_retry(&retries)
        .retry_classifier(RetryAfter)
        .retry_classifier(HttpStatusCodeClassifier::default())
        .timeout_config(TimeoutConfig::disabled())
        .time_source(time)
        .sleep_impl(TokioSleep::new())
        .serializer(|job: usize| {
            let mut request = HttpRequest::new(SdkBody::empty());
            request.headers_mut().insert(JOB, job.to_string());
            Ok(request)
        })
        .deserializer(|response| match response.status() {
            status if StatusCode::is_success(status) => Ok(()),
            _ => Err(OrchestratorError::operation(Throttled)),
        })
        .build();
    Arc::new(Aws(operation))
}
