//! Secrets that change under load: nobody notices, in whatever order the change arrives.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod support;

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use support::{Body, answering, get, origin, spawn, status_only};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{Layer, service_fn, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{
        SecretFile, SecretSource, SecretVariable, TokenError, TokenErrorKind, TokenEvent,
    },
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_both_secrets_for_a_while_is_never_asked_with_a_wrong_one() {
    let world = World::new("both");

    let failures = world
        .under_load(async |world, at| {
            at(10).await;
            world.issuer.accept(&["old", "new"]);
            at(20).await;
            world.rename("new");
            at(30).await;
            world.issuer.accept(&["new"]);
        })
        .await;

    assert_eq!(failures, 0);
    assert_eq!(world.issuer.refused(), 0);
    assert_eq!(world.issuer.asked(), ["old", "new", "new", "new"]);
    assert!(world.kept().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_knows_only_the_new_secret_is_asked_again_as_soon_as_the_file_has_it() {
    let world = World::new("server-first");

    let failures = world
        .under_load(async |world, at| {
            at(10).await;
            world.issuer.accept(&["new"]);
            while world.issuer.refused() == 0 {
                sleep(SECOND / 10).await;
            }
            world.rename("new");
        })
        .await;

    assert_eq!(failures, 0);
    assert_eq!(world.issuer.refused(), 1);
    assert_eq!(world.issuer.asked()[..3], ["old", "old", "new"]);
    // The attempt that was refused was made with the secret that had worked.
    assert!(world.kept().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_missing_or_empty_for_a_while_is_replaced_by_what_it_held() {
    let world = World::new("missing");

    let failures = world
        .under_load(async |world, at| {
            at(40).await;
            fs::remove_file(&world.file).unwrap();
            at(60).await;
            fs::write(&world.file, "\n").unwrap();
            at(110).await;
            world.issuer.accept(&["old", "new"]);
            world.rename("new");
        })
        .await;

    assert_eq!(failures, 0);
    assert_eq!(world.issuer.refused(), 0);
    assert_eq!(world.issuer.asked(), ["old", "old", "old", "new"]);
    let kept = world.kept();
    assert_eq!(kept.len(), 2);
    assert!(kept[0].contains("could not be read"), "{}", kept[0]);
    assert!(kept[1].contains("is empty"), "{}", kept[1]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_know_the_new_secret_yet_is_asked_with_the_old_one() {
    let world = World::new("file-first");

    let failures = world
        .under_load(async |world, at| {
            at(10).await;
            world.rename("new");
            at(110).await;
            world.issuer.accept(&["new"]);
        })
        .await;

    assert_eq!(failures, 0);
    assert_eq!(
        world.issuer.asked(),
        ["old", "new", "old", "new", "old", "new"]
    );
    let kept = world.kept();
    assert_eq!(kept.len(), 2);
    assert!(kept[0].contains("invalid_client"), "{}", kept[0]);
    assert!(!kept[0].contains("old"), "{}", kept[0]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_replaced_by_what_it_gave() {
    let issuer = Issuer::accepting(&["old"]);
    let reads = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reads);
    let tokens = issuer.layer(move || {
        let first = counter.fetch_add(1, SeqCst) == 0;
        async move {
            if !first {
                std::future::pending::<()>().await;
            }
            Ok("old".into())
        }
    });
    let handle = tokens.build().handle();
    handle.token().await.unwrap();
    let began = Instant::now();

    handle.refresh_now().await.unwrap();

    assert_eq!(began.elapsed(), 5 * SECOND);
    assert_eq!(reads.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_replaced_while_it_is_refused_is_read_again_at_once() {
    let issuer = Issuer::accepting(&["new"]);
    let reads = AtomicUsize::new(0);
    let tokens = issuer.layer(move || {
        let first = reads.fetch_add(1, SeqCst) == 0;
        std::future::ready(Ok(if first { "old" } else { "new" }.into()))
    });

    tokens.build().handle().token().await.unwrap();

    assert_eq!(issuer.asked(), ["old", "new"]);
}

#[tokio::test(start_paused = true)]
async fn when_all_secrets_are_refused_the_error_and_the_back_off_are_those_of_the_new_one() {
    let issuer = Issuer::accepting(&["old"]);
    let secret = Arc::new(Mutex::new("old"));
    let source = Arc::clone(&secret);
    let tokens = issuer.layer(move || {
        let secret = *source.lock().unwrap();
        std::future::ready(Ok(secret.into()))
    });
    let handle = tokens.build().handle();
    handle.token().await.unwrap();
    handle.invalidate();
    *secret.lock().unwrap() = "newer";
    issuer.accept(&[]);

    let first = handle.token().await.unwrap_err();
    sleep(20 * SECOND).await;
    let second = handle.token().await.unwrap_err();

    assert_eq!(first.kind(), TokenErrorKind::CredentialsRefused);
    assert_eq!(second.failures(), Some(1));
    assert_eq!(issuer.asked(), ["old", "newer", "old"]);
}

#[tokio::test(start_paused = true)]
async fn during_a_permanent_back_off_the_secret_is_looked_at_every_five_seconds() {
    let issuer = Issuer::accepting(&["right"]);
    let secret = Arc::new(Mutex::new("wrong"));
    let reads = Arc::new(AtomicUsize::new(0));
    let (source, counter) = (Arc::clone(&secret), Arc::clone(&reads));
    let tokens = issuer.layer(move || {
        counter.fetch_add(1, SeqCst);
        let secret = *source.lock().unwrap();
        std::future::ready(Ok(secret.into()))
    });
    let handle = tokens.build().handle();

    handle.token().await.unwrap_err();
    let read = reads.load(SeqCst);
    for _ in 0..49 {
        sleep(SECOND / 10).await;
        handle.token().await.unwrap_err();
    }
    assert_eq!(reads.load(SeqCst), read);
    for _ in 0..20 {
        sleep(SECOND / 10).await;
        handle.token().await.unwrap_err();
    }
    assert_eq!(reads.load(SeqCst), read + 1);
    assert_eq!(issuer.asked(), ["wrong"]);

    *secret.lock().unwrap() = "right";
    sleep(4 * SECOND).await;

    handle.token().await.unwrap();
    assert_eq!(issuer.asked(), ["wrong", "right"]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_noticed_while_the_valid_token_is_still_in_use() {
    let issuer = Issuer::accepting(&["old"]);
    let secret = Arc::new(Mutex::new("old"));
    let source = Arc::clone(&secret);
    let tokens = issuer.layer(move || {
        let secret = *source.lock().unwrap();
        std::future::ready(Ok(secret.into()))
    });
    let handle = tokens.build().handle();
    handle.token().await.unwrap();
    issuer.accept(&["new"]);
    sleep(49 * SECOND).await;
    // Starts the early refresh, which is refused.
    handle.token().await.unwrap();
    sleep(SECOND).await;
    *secret.lock().unwrap() = "new";
    sleep(5 * SECOND).await;

    handle.token().await.unwrap();
    sleep(SECOND).await;

    assert_eq!(issuer.asked(), ["old", "old", "new"]);
    assert_eq!(handle.token().await.unwrap().expose(), Some("token-2"));
}

#[tokio::test(start_paused = true)]
async fn a_variable_is_looked_up_and_one_that_is_not_set_is_named() {
    let name = env!("CARGO_PKG_NAME");
    let issuer = Issuer::accepting(&[name]);
    let set = issuer.layer(SecretVariable::new("CARGO_PKG_NAME"));
    let unset = issuer.layer(SecretVariable::new("TOWER_M2M_IS_NOT_SET"));

    set.build().handle().token().await.unwrap();
    let error = unset.build().handle().token().await.unwrap_err();

    assert_eq!(issuer.asked(), [name]);
    assert_eq!(
        (error.kind(), error.is_transient()),
        (TokenErrorKind::Secret, false)
    );
    assert!(
        error.to_string().contains("TOWER_M2M_IS_NOT_SET"),
        "{error}"
    );
}

/// A server whose secrets change, and the file that a client reads them from.
struct World {
    issuer: Issuer,
    file: PathBuf,
    kept: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// With the secret `old`.
    fn new(name: &str) -> Self {
        let name = format!("tower-m2m-rotation-{}-{name}", std::process::id());
        let world = Self {
            issuer: Issuer::accepting(&["old"]),
            file: std::env::temp_dir().join(name),
            kept: Arc::default(),
        };
        world.rename("old");
        world
    }

    /// Puts `secret` in the file's place, as those do who replace it in one step.
    fn rename(&self, secret: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{secret}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    fn kept(&self) -> Vec<String> {
        self.kept.lock().unwrap().clone()
    }

    /// How many of 1,000 callers see a failure, who send for 150 s, each as soon as the last request is answered, while
    /// `rotation` goes on.
    async fn under_load(
        &self,
        rotation: impl AsyncFn(&Self, &dyn Fn(u64) -> tokio::time::Sleep),
    ) -> usize {
        let kept = Arc::clone(&self.kept);
        let layer = self
            .issuer
            .layer(SecretFile::new(&self.file))
            .on_event(move |event: &TokenEvent<'_>| {
                if let TokenEvent::KeptSecretUsed { error, .. } = event {
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

impl Drop for World {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.file));
    }
}

/// An issuer of tokens that live for 60 s, and knows which they are.
#[derive(Clone, Default)]
struct Issuer(Arc<State>);

#[derive(Default)]
struct State {
    accepted: Mutex<Vec<&'static str>>,
    asked: Mutex<Vec<String>>,
    refused: AtomicUsize,
    issued: Mutex<HashMap<String, Instant>>,
}

impl Issuer {
    fn accepting(secrets: &[&'static str]) -> Self {
        let issuer = Self::default();
        issuer.accept(secrets);
        issuer
    }

    fn accept(&self, secrets: &[&'static str]) {
        *self.0.accepted.lock().unwrap() = secrets.to_vec();
    }

    /// The secrets of all token requests.
    fn asked(&self) -> Vec<String> {
        self.0.asked.lock().unwrap().clone()
    }

    fn refused(&self) -> usize {
        self.0.refused.load(SeqCst)
    }

    fn layer(
        &self,
        secret: impl SecretSource,
    ) -> tower_m2m::client_credentials::ClientCredentialsLayerBuilder {
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
        self.0.asked.lock().unwrap().push(secret.to_owned());
        if !self.0.accepted.lock().unwrap().contains(&secret) {
            self.0.refused.fetch_add(1, SeqCst);
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
    fn api(&self) -> BoxCloneSyncService<Request<Body>, Response<Body>, BoxError> {
        let state = Arc::clone(&self.0);
        let (inner, _) = answering(move |request| {
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

#[test]
fn any_closure_that_returns_a_future_is_a_source() {
    fn source(source: impl SecretSource) -> ClientAuth {
        ClientAuth::post("id", source)
    }

    async fn read() -> Result<secrecy::SecretString, TokenError> {
        Ok("secret".into())
    }

    let name = String::from("captured");
    let printed = format!(
        "{:?} {:?}",
        source(read),
        source(move || {
            let name = name.clone();
            async move { Ok(name.into()) }
        })
    );
    assert!(!printed.contains("captured"), "{printed}");
}
