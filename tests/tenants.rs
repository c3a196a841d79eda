//! Many credentials in one service.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod support;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use http::{Request, Response, StatusCode, header};
use support::{
    API, Body, HOUR, Inner, SECOND, Source, get, send, serving, spawn, status_only, throttled,
};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service};
use tower_m2m::{
    BoxError, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer,
    client_credentials::{AccessToken, FetchContext, OriginNotAllowed, TokenError, TokenSource},
    tenants::{
        CredentialId, TenantError, Tenants, TenantsHandle, TenantsLayer, TenantsLayerBuilder,
    },
};

/// Sources by tenant, and how often a layer was made.
#[derive(Clone, Default)]
struct World {
    sources: Arc<Mutex<HashMap<String, Source>>>,
    layers_made: Arc<AtomicUsize>,
}

impl World {
    fn with(names: &[&str]) -> Self {
        let world = Self::default();
        for name in names {
            let source = Source::with_lifetime(10 * HOUR);
            world.sources.lock().unwrap().insert((*name).into(), source);
        }
        world
    }

    fn source(&self, name: &str) -> Source {
        self.sources.lock().unwrap()[name].clone()
    }

    fn builder(&self) -> TenantsLayerBuilder {
        let world = self.clone();
        TenantsLayer::builder(move |id| {
            let source = world.sources.lock().unwrap().get(id.as_str()).cloned();
            let Some(source) = source else {
                return Ok(None);
            };
            world.layers_made.fetch_add(1, SeqCst);
            // Each tenant has an API of its own.
            let origin = format!("https://{}.example.com", id.as_str()).parse()?;
            let credentials = ClientCredentialsLayer::builder(source, origin)
                .allow_origin(API.parse()?)
                .name(id.as_str())
                .build();
            Ok(Some(M2mLayer::new(RateLimitRetryLayer::new(), credentials)))
        })
    }

    /// Whose token came with `request`.
    fn authorization_of(&self, request: &Request<Body>) -> Option<String> {
        let sources = self.sources.lock().unwrap();
        let (name, _) = sources.iter().find(|(_, source)| source.accepts(request))?;
        Some(name.clone())
    }
}

fn of(tenant: &str, mut request: Request<Body>) -> Request<Body> {
    let id = CredentialId::new(tenant);
    request.extensions_mut().insert(id);
    request
}

fn error_of(outcome: Result<Response<Body>, BoxError>) -> TenantError {
    *outcome.unwrap_err().downcast().unwrap()
}

fn ok() -> (Inner, Arc<AtomicUsize>) {
    serving(|_| std::future::ready(status_only(StatusCode::OK)))
}

#[tokio::test(start_paused = true)]
async fn each_tenant_uses_its_own_token_and_origins() {
    let world = World::with(&["orders", "stock"]);
    // So that the two never have tokens of the same name.
    unused_layer(&world.source("stock")).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, whose) = (Arc::clone(&seen), world.clone());
    let (inner, calls) = serving(move |request| {
        log.lock().unwrap().push(whose.authorization_of(&request));
        std::future::ready(status_only(StatusCode::OK))
    });
    let service = world.builder().build().layer(inner);

    for tenant in ["orders", "stock", "orders"] {
        send(&service, of(tenant, get("/"))).await.unwrap();
    }
    let elsewhere = Request::get("https://stock.example.com/")
        .body(Body::default())
        .unwrap();
    let refused = send(&service, of("orders", elsewhere)).await.unwrap_err();

    let whose: Vec<_> = seen.lock().unwrap().iter().flatten().cloned().collect();
    assert_eq!(whose, ["orders", "stock", "orders"]);
    assert!(refused.downcast_ref::<OriginNotAllowed>().is_some());
    assert_eq!(calls.load(SeqCst), 3);
    assert_eq!(world.layers_made.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn unknown_tenants_are_rejected_and_never_sent_as_another() {
    let world = World::with(&["orders"]);
    let (inner, calls) = ok();
    let service = world.builder().build().layer(inner);
    send(&service, of("orders", get("/"))).await.unwrap();

    let unknown = error_of(send(&service, of("nobody", get("/"))).await);
    let not_chosen = error_of(send(&service, get("/")).await);
    // Not even if it says so itself.
    let mut claimed = get("/");
    let name = header::HeaderName::from_static("x-credential-id");
    claimed
        .headers_mut()
        .insert(name, "orders".parse().unwrap());
    let claimed = error_of(send(&service, claimed).await);

    assert!(matches!(unknown, TenantError::Unknown(id) if id.as_str() == "nobody"));
    assert!(matches!(not_chosen, TenantError::MissingId));
    assert!(matches!(claimed, TenantError::MissingId));
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn tenants_can_be_added_later() {
    let world = World::default();
    let service = world.builder().build().layer(ok().0);
    assert!(send(&service, of("new", get("/"))).await.is_err());

    let source = Source::with_lifetime(HOUR);
    world.sources.lock().unwrap().insert("new".into(), source);

    assert!(send(&service, of("new", get("/"))).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn layer_errors_are_returned_and_retried() {
    let broken = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&broken);
    let world = World::with(&["orders"]);
    let layers = Mutex::new(world.clone());
    let layer = TenantsLayer::new(move |_| {
        if state.load(SeqCst) {
            return Err("the vault is closed".into());
        }
        let source = layers.lock().unwrap().source("orders");
        let credentials = ClientCredentialsLayer::builder(source, API.parse()?).build();
        Ok(Some(M2mLayer::new(RateLimitRetryLayer::new(), credentials)))
    });
    let service = layer.layer(ok().0);

    let error = error_of(send(&service, of("orders", get("/"))).await);
    broken.store(false, SeqCst);
    let later = send(&service, of("orders", get("/"))).await;

    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the vault is closed");
    assert!(later.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_first_requests_of_a_tenant_share_one_token_cache() {
    let world = World::with(&["orders"]);
    let sources = Arc::clone(&world.sources);
    let slow = world.source("orders").with_delay(SECOND);
    sources.lock().unwrap().insert("orders".into(), slow);
    let service = world.builder().build().layer(ok().0);

    let callers: Vec<_> = (0..1000)
        .map(|_| spawn(&service, of("orders", get("/"))))
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }

    assert_eq!(world.source("orders").fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_table_rejects_new_tenants_and_evicts_only_idle_ones() {
    let world = World::with(&["a", "b", "c", "d"]);
    let layer = world.builder().max_tenants(2).idle_timeout(HOUR).build();
    let handle = layer.handle();
    let service = layer.layer(ok().0);
    for tenant in ["a", "b"] {
        send(&service, of(tenant, get("/"))).await.unwrap();
    }

    let full = error_of(send(&service, of("c", get("/"))).await);
    advance(HOUR / 2).await;
    // Found to be in use now; `b` is not.
    send(&service, of("a", get("/"))).await.unwrap();
    let still = error_of(send(&service, of("c", get("/"))).await);
    advance(HOUR / 2).await;
    send(&service, of("c", get("/"))).await.unwrap();

    assert!(matches!(full, TenantError::AtCapacity(id) if id.as_str() == "c"));
    assert!(matches!(still, TenantError::AtCapacity(_)));
    let mut kept = handle.ids();
    kept.sort();
    assert_eq!(kept, [CredentialId::new("a"), CredentialId::new("c")]);
    assert!(handle.tokens(&CredentialId::new("b")).is_none());
    // A forgotten tenant is created again when there is room, with a new cache.
    handle.forget(&CredentialId::new("a"));
    send(&service, of("b", get("/"))).await.unwrap();
    assert_eq!(world.layers_made.load(SeqCst), 6);
}

#[tokio::test(start_paused = true)]
async fn tenants_in_backoff_or_on_hold_are_never_evicted() {
    for holds in [false, true] {
        let world = World::with(&["a", "b"]);
        if !holds {
            let refused = TokenError::permanent("was refused");
            world.source("a").fail_with(Some(refused));
        }
        let layer = world.builder().max_tenants(1).idle_timeout(SECOND).build();
        let service = layer.layer(serving(|_| std::future::ready(throttled("50"))).0);
        drop(send(&service, of("a", get("/"))).await);
        for _ in 0..2 {
            // The first sweep finds that it was used, the second that it was not.
            advance(2 * SECOND).await;
            drop(send(&service, of("b", get("/"))).await);
        }

        let kept = layer.handle().ids();

        assert_eq!(kept, [CredentialId::new("a")], "holds: {holds}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_one_tenant_do_not_slow_others() {
    let world = World::with(&["failing", "held", "well"]);
    let failure = TokenError::transient("could not be sent");
    world.source("failing").fail_with(Some(failure));
    let sources = world.clone();
    let (inner, _) = serving(move |request| {
        let held = sources.source("held").accepts(&request) && request.uri().path() == "/held";
        std::future::ready(match held {
            true => throttled("30"),
            false => status_only(StatusCode::OK),
        })
    });
    let service: Tenants<_> = world.builder().build().layer(inner);
    send(&service, of("well", get("/"))).await.unwrap();
    let began = Instant::now();

    let failing = spawn(&service, of("failing", get("/")));
    let held = spawn(&service, of("held", get("/held")));
    sleep(SECOND).await;
    let before = Instant::now();
    send(&service, of("well", get("/"))).await.unwrap();

    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(failing.await.unwrap().is_err());
    drop(held.await.unwrap());
    assert!(began.elapsed() >= 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn forgetting_a_tenant_during_creation_rebuilds_its_layer() {
    let secret = Arc::new(Mutex::new("old"));
    let (has_read, reads) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let (read, goes_on) = (Arc::clone(&secret), Mutex::new(goes_on));
    let layer = TenantsLayer::new(move |_| {
        let secret = *read.lock().unwrap();
        has_read.send(secret).unwrap();
        // Slow, with the secret that was read before.
        goes_on.lock().unwrap().recv().ok();
        let source = AccessToken::new(secret);
        let credentials = ClientCredentialsLayer::builder(source, API.parse()?).build();
        Ok(Some(M2mLayer::new(RateLimitRetryLayer::new(), credentials)))
    });
    let handle = layer.handle();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    let (inner, _) = serving(move |request: Request<Body>| {
        let value = request.headers()[header::AUTHORIZATION].clone();
        log.lock().unwrap().push(value);
        std::future::ready(status_only(StatusCode::OK))
    });
    let service = layer.layer(inner);

    let first = std::thread::spawn({
        let service = service.clone();
        move || {
            let mut service = service;
            drop(service.call(of("orders", get("/"))));
        }
    });
    assert_eq!(reads.recv().unwrap(), "old");
    *secret.lock().unwrap() = "new";
    handle.forget(&CredentialId::new("orders"));
    drop(go_on);
    first.join().unwrap();
    send(&service, of("orders", get("/"))).await.unwrap();

    assert_eq!(sent.lock().unwrap().as_slice(), ["Bearer new"]);
    assert_eq!(reads.try_iter().collect::<Vec<_>>(), ["new"]);
}

#[test]
fn forgetting_a_tenant_drops_its_state_on_every_thread() {
    let owned = Arc::new(());
    let clone = Arc::clone(&owned);
    let layer = TenantsLayer::new(move |id| {
        let source = Owner(Arc::clone(&clone));
        let name = id.as_str();
        let credentials = ClientCredentialsLayer::builder(source, API.parse()?).name(name);
        let credentials = credentials.build();
        Ok(Some(M2mLayer::new(RateLimitRetryLayer::new(), credentials)))
    });
    let handle = layer.handle();
    // As many threads as have copies of their own, none of which sends anything afterwards.
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for tenant in ["orders", "stock"] {
                    drop(layer.layer(ok().0).call(of(tenant, get("/"))));
                }
            });
        }
    });
    let in_use = Arc::strong_count(&owned);

    for tenant in ["orders", "stock"] {
        assert!(handle.forget(&CredentialId::new(tenant)));
    }

    assert!(in_use > 2);
    // Ours, and the closure's.
    assert_eq!(Arc::strong_count(&owned), 2);
}

#[tokio::test(start_paused = true)]
async fn a_closure_that_panics_is_an_error_and_the_next_request_tries_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&broken);
    let world = World::with(&["orders"]);
    let sources = world.clone();
    let layer = TenantsLayer::new(move |_| {
        assert!(!state.load(SeqCst), "as it should");
        let source = sources.source("orders");
        let credentials = ClientCredentialsLayer::builder(source, API.parse()?).build();
        Ok(Some(M2mLayer::new(RateLimitRetryLayer::new(), credentials)))
    });
    let service = layer.layer(ok().0);

    let error = error_of(send(&service, of("orders", get("/"))).await);
    broken.store(false, SeqCst);
    let later = send(&service, of("orders", get("/"))).await;

    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the closure of `TenantsLayer` panicked");
    assert!(later.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_closure_runs_without_locks_and_may_use_the_handle() {
    let handle: Arc<OnceLock<TenantsHandle>> = Arc::default();
    let service: Arc<OnceLock<Tenants<Inner>>> = Arc::default();
    let (asked, sent) = (Arc::clone(&handle), Arc::clone(&service));
    let world = World::with(&["orders"]);
    let layer = TenantsLayer::new(move |id| {
        if id.as_str() == "orders" {
            // Another tenant, on the same thread.
            let mut service = sent.get().unwrap().clone();
            drop(service.call(of("stock", get("/"))));
            asked.get().unwrap().forget(&CredentialId::new("stock"));
        }
        let credentials = ClientCredentialsLayer::builder(world.source("orders"), API.parse()?);
        let credentials = credentials.build();
        Ok(Some(M2mLayer::new(RateLimitRetryLayer::new(), credentials)))
    });
    handle.set(layer.handle()).ok().unwrap();
    service.set(layer.layer(ok().0)).ok().unwrap();

    let service = service.get().unwrap();
    send(service, of("orders", get("/"))).await.unwrap();

    assert_eq!(layer.handle().ids(), [CredentialId::new("orders")]);
}

/// A source that owns something.
struct Owner(#[expect(dead_code, reason = "counted")] Arc<()>);

impl TokenSource for Owner {
    async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        Ok(AccessToken::new("token"))
    }
}

/// Fetches once, so that the names of the tokens that follow are others.
async fn unused_layer(source: &Source) {
    let layer = ClientCredentialsLayer::builder(source.clone(), API.parse().unwrap()).build();
    layer.handle().token().await.unwrap();
    source.revoke_all();
}
