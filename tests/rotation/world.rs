//! A server whose secrets change, an API, and who sends requests to it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, sleep_until};
use tower::{Layer, service_fn};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{ClientCredentialsLayerBuilder, SecretFile, SecretSource, TokenEvent},
};

use crate::support::{
    Body, Inner, SECOND, get, origin, serving, spawn, status_only, temp_file::TempFile,
};

/// A server whose secrets change, and the file that a client reads them from.
pub(crate) struct World {
    pub(crate) issuer: Issuer,
    pub(crate) file: TempFile,
    fallback_uses: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// With the secret `old`.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            issuer: Issuer::with_secrets(&["old"]),
            file: TempFile::with_content(name, "old\n"),
            fallback_uses: Arc::default(),
        }
    }

    pub(crate) fn fallback_uses(&self) -> Vec<String> {
        self.fallback_uses.lock().unwrap().clone()
    }

    /// How many of 1,000 callers see a failure while `rotation` runs. Each sends for 150 s, one request after the
    /// other.
    pub(crate) async fn under_load(
        &self,
        rotation: impl AsyncFn(&Self, &dyn Fn(u64) -> tokio::time::Sleep),
    ) -> usize {
        let kept = Arc::clone(&self.fallback_uses);
        let layer = self
            .issuer
            .layer(SecretFile::new(self.file.path()))
            .on_event(move |event: &TokenEvent<'_>| {
                if let TokenEvent::FallbackSecretUsed { error, .. } = event {
                    kept.lock().unwrap().push(error.to_string());
                }
            })
            .build();
        let service = layer.layer(self.issuer.api());
        let began = Instant::now();
        let callers: Vec<_> = (0..1_000u64)
            .map(|number| {
                let service = service.clone();
                let takes = 2_000 + 8 * number;
                tokio::spawn(async move {
                    while began.elapsed() < 150 * SECOND {
                        let request = get(&format!("/{takes}"));
                        let response = spawn(&service, request).await.unwrap();
                        if !response.is_ok_and(|r| r.status() == 200) {
                            return 1;
                        }
                    }
                    0
                })
            })
            .collect();
        rotation(self, &|seconds| {
            sleep_until(began + Duration::from_secs(seconds))
        })
        .await;
        let mut failures = 0;
        for caller in callers {
            failures += caller.await.unwrap();
        }
        failures
    }
}

/// An issuer of tokens that live for 60 s, and knows which they are.
#[derive(Clone, Default)]
pub(crate) struct Issuer(Arc<State>);

#[derive(Default)]
struct State {
    accepted: Mutex<Vec<&'static str>>,
    requests: Mutex<Vec<String>>,
    rejected: AtomicUsize,
    issued: Mutex<HashMap<String, Instant>>,
}

impl Issuer {
    pub(crate) fn with_secrets(secrets: &[&'static str]) -> Self {
        let issuer = Self::default();
        issuer.accept(secrets);
        issuer
    }

    pub(crate) fn accept(&self, secrets: &[&'static str]) {
        *self.0.accepted.lock().unwrap() = secrets.to_vec();
    }

    /// The secrets of all token requests.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.0.requests.lock().unwrap().clone()
    }

    pub(crate) fn rejected(&self) -> usize {
        self.0.rejected.load(SeqCst)
    }

    pub(crate) fn layer(&self, secret: impl SecretSource) -> ClientCredentialsLayerBuilder {
        let issuer = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let issuer = issuer.clone();
            async move {
                let form = request.into_body().collect().await?.to_bytes();
                Ok::<_, BoxError>(issuer.answer(std::str::from_utf8(&form)?))
            }
        });
        let uri = "https://issuer.example/token".parse().unwrap();
        let endpoint = TokenEndpoint::new(uri, ClientAuth::post("id", secret)).service(service);
        ClientCredentialsLayer::builder(endpoint, origin()).seed(7)
    }

    fn answer(&self, form: &str) -> Response<Body> {
        let mut pairs = form.split('&').filter_map(|pair| pair.split_once('='));
        let (_, secret) = pairs.find(|(name, _)| *name == "client_secret").unwrap();
        self.0.requests.lock().unwrap().push(secret.to_owned());
        if !self.0.accepted.lock().unwrap().contains(&secret) {
            self.0.rejected.fetch_add(1, SeqCst);
            let mut response = status_only(StatusCode::UNAUTHORIZED);
            *response.body_mut() = Body::from(r#"{"error":"invalid_client"}"#);
            return response;
        }
        let mut issued = self.0.issued.lock().unwrap();
        let token = format!("token-{}", issued.len() + 1);
        issued.insert(token.clone(), Instant::now());
        Response::new(Body::from(format!(
            r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":60}}"#
        )))
    }

    /// An API that takes as long as the path says, and then accepts the tokens that were valid at the beginning.
    fn api(&self) -> Inner {
        let state = Arc::clone(&self.0);
        let (inner, _) = serving(move |request| {
            let value = request.headers()[header::AUTHORIZATION].to_str().unwrap();
            let token = value.strip_prefix("Bearer ").unwrap();
            let issued = state.issued.lock().unwrap().get(token).copied();
            let valid = issued.is_some_and(|issued| issued.elapsed() < 60 * SECOND);
            let takes = request.uri().path()[1..].parse().unwrap();
            async move {
                sleep(Duration::from_millis(takes)).await;
                status_only(if valid {
                    StatusCode::OK
                } else {
                    StatusCode::UNAUTHORIZED
                })
            }
        });
        inner
    }
}
