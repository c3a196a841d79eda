//! Further scopes when an API asks for them (RFC 6750 §3.1): off by default, one token, one replay, bounded.

mod support;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use http::{Request, Response, StatusCode, header};
use support::{Body, Inner, SECOND, get, send};
use tokio::time::sleep;
use tower::{Layer, service_fn, util::BoxCloneService};
use tower_m2m::{
    Attempts, BoxError, ClientAuth, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer,
    TokenEndpoint,
    client_credentials::{RejectionAction, TokenEvent},
    test_util::MemoryTokenStore,
};

/// An authorization server that issues tokens whose text is their scope, and an API that wants scopes.
#[derive(Clone, Default)]
struct World(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Scopes of each token request.
    requested: Vec<String>,
    /// Scopes that the server refuses.
    refused: BTreeSet<&'static str>,
    /// Scopes that the server does not grant, without saying so in an error.
    ungranted: BTreeSet<&'static str>,
    /// Scopes that the API wants.
    wanted: Vec<&'static str>,
    /// Status and scheme of the API's challenge.
    challenge: Option<(u16, &'static str)>,
    /// Tokens that came to the API.
    used: Vec<String>,
}

impl World {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn endpoint(&self) -> TokenEndpoint {
        let world = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let world = world.clone();
            async move {
                use http_body_util::BodyExt;
                let form = request.into_body().collect().await?.to_bytes();
                let form = String::from_utf8(form.to_vec())?;
                let scope = form.split('&').find_map(|pair| pair.strip_prefix("scope="));
                let scope = scope.unwrap_or_default().replace("%20", " ");
                Ok::<_, BoxError>(world.with(|state| state.grant(&scope)))
            }
        });
        TokenEndpoint::new(
            "https://id.example/token".parse().unwrap(),
            ClientAuth::basic("id", "secret"),
        )
        .service(service)
        .scope("read")
    }

    fn layer(&self, step_up: bool) -> ClientCredentialsLayer {
        support::server::layer(self.endpoint())
            .step_up(step_up)
            .build()
    }

    fn api(&self) -> Inner {
        let world = self.clone();
        Inner::new(service_fn(move |request: Request<Body>| {
            let response = world.with(|state| state.serve(&request));
            async move { Ok::<_, BoxError>(response) }
        }))
    }

    fn requested(&self) -> Vec<String> {
        self.with(|state| state.requested.clone())
    }
}

impl State {
    fn grant(&mut self, scope: &str) -> Response<Body> {
        self.requested.push(scope.to_owned());
        let (status, body) = if scope.split(' ').any(|scope| self.refused.contains(scope)) {
            (400, r#"{"error":"invalid_scope"}"#.to_owned())
        } else {
            let granted = scope
                .split(' ')
                .filter(|scope| !self.ungranted.contains(scope));
            let granted = granted.collect::<Vec<_>>().join("+");
            let count = self.requested.len();
            let token = format!(
                r#"{{"access_token":"{granted}#{count}","token_type":"Bearer","expires_in":300}}"#
            );
            (200, token)
        };
        Response::builder()
            .status(status)
            .body(body.into())
            .unwrap()
    }

    fn serve(&mut self, request: &Request<Body>) -> Response<Body> {
        let token = request.headers()[header::AUTHORIZATION].to_str().unwrap();
        let token = token.strip_prefix("Bearer ").unwrap().to_owned();
        self.used.push(token.clone());
        let scopes = token.split('#').next().unwrap();
        let has = |wanted: &&str| scopes.split('+').any(|scope| scope == *wanted);
        if self.wanted.iter().all(has) {
            return Response::new(Body::default());
        }
        let (status, challenge) = self.challenge.unwrap_or((403, "Bearer"));
        let scope = self.wanted.join(" ");
        let challenge =
            format!("{challenge} realm=\"api\", error=\"insufficient_scope\", scope=\"{scope}\"");
        Response::builder()
            .status(status)
            .header(header::WWW_AUTHENTICATE, challenge)
            .body(Body::default())
            .unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_403_is_returned_by_default() {
    let world = World::default();
    world.with(|state| state.wanted = vec!["write"]);
    let service = world.layer(false).layer(world.api());

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(world.requested(), ["read"]);
}

#[tokio::test(start_paused = true)]
async fn one_token_with_both_scopes_is_requested_and_remembered() {
    for (combined, status) in [(false, 403), (true, 403), (false, 401)] {
        let world = World::default();
        world.with(|state| {
            state.wanted = vec!["write"];
            state.challenge = Some((status, "Bearer"));
        });
        let layer = world.layer(true);
        let tokens = layer.handle();
        let service = match combined {
            false => BoxCloneService::new(layer.layer(world.api())),
            true => {
                let limits = RateLimitRetryLayer::new();
                BoxCloneService::new(M2mLayer::new(limits, layer).layer(world.api()))
            }
        };

        let response = send(&service, get("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(Attempts::of(&response), 2);
        assert_eq!(world.requested(), ["read", "read write"]);
        // Remembered: also by the next token.
        send(&service, get("/")).await.unwrap();
        tokens.refresh_now().await.unwrap();
        send(&service, get("/")).await.unwrap();
        assert_eq!(world.requested(), ["read", "read write", "read write"]);
        assert_eq!(world.with(|state| state.used.len()), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_requests_cause_one_token_request() {
    let world = World::default();
    world.with(|state| state.wanted = vec!["write"]);
    let service = world.layer(true).layer(world.api());

    let calls: Vec<_> = (0..50)
        .map(|_| support::spawn(&service, get("/")))
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    assert_eq!(world.requested(), ["read", "read write"]);
}

#[tokio::test(start_paused = true)]
async fn scopes_that_the_server_refuses_are_forgotten() {
    let world = World::default();
    world.with(|state| {
        state.wanted = vec!["admin"];
        state.refused.insert("admin");
    });
    let layer = world.layer(true);
    let tokens = layer.handle();
    let service = layer.layer(world.api());

    for _ in 0..20 {
        let response = send(&service, get("/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        sleep(11 * SECOND).await;
    }

    // The credential remains usable.
    tokens.refresh_now().await.unwrap();
    let asked = world.requested();
    assert_eq!(
        asked.iter().filter(|scope| scope.contains("admin")).count(),
        1
    );
    assert!(asked.len() <= 4, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_never_satisfied_is_bounded_by_the_cooldown() {
    let world = World::default();
    world.with(|state| {
        state.wanted = vec!["admin"];
        state.ungranted.insert("admin");
    });
    let service = world.layer(true).layer(world.api());

    for _ in 0..600 {
        let response = send(&service, get("/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        sleep(SECOND / 10).await;
    }

    // In a minute: the first, its replacement, and few more after cooldowns that double.
    assert!(world.requested().len() <= 5, "{:?}", world.requested());
}

#[tokio::test(start_paused = true)]
async fn a_challenge_of_another_scheme_or_kind_is_returned() {
    let world = World::default();
    world.with(|state| {
        state.wanted = vec!["write"];
        state.challenge = Some((403, "Basic"));
    });
    let service = world.layer(true).layer(world.api());
    let response = send(&service, get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);

    // A 403 without a scope, one with scopes that are not well-formed, and RFC 9470.
    for challenge in [
        "Bearer error=\"insufficient_scope\"",
        "Bearer error=\"insufficient_scope\", scope=\"\\\"\"",
        "Bearer error=\"insufficient_user_authentication\", acr_values=\"2\", scope=\"write\"",
        "Bearer error=\"invalid_token\", scope=\"write\"",
    ] {
        let source = World::default();
        let inner = service_fn(move |_: Request<Body>| async move {
            let response = Response::builder().status(403);
            let response = response.header(header::WWW_AUTHENTICATE, challenge);
            Ok::<_, BoxError>(response.body(Body::default())?)
        });
        let service = source.layer(true).layer(inner);

        let response = send(&service, get("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{challenge}");
        assert_eq!(source.requested().len(), 1, "{challenge}");
    }
    assert_eq!(world.requested(), ["read"]);
}

#[tokio::test(start_paused = true)]
async fn each_challenge_is_an_event() {
    let world = World::default();
    world.with(|state| state.wanted = vec!["write"]);
    let actions = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&actions);
    let layer = support::server::layer(world.endpoint())
        .step_up(true)
        .on_event(move |event| {
            if let TokenEvent::Rejected { action, .. } = event {
                seen.lock().unwrap().push(*action);
            }
        });
    let service = layer.build().layer(world.api());

    send(&service, get("/")).await.unwrap();

    assert_eq!(*actions.lock().unwrap(), [RejectionAction::Replayed]);
}

#[tokio::test(start_paused = true)]
async fn processes_share_tokens_with_the_same_scopes_only() {
    let world = World::default();
    let store = MemoryTokenStore::new();
    let layer = |step_up| {
        support::server::layer(world.endpoint())
            .step_up(step_up)
            .store(store.clone())
            .build()
    };
    let (plain, stepping) = (layer(false), layer(true));
    plain.handle().token().await.unwrap();
    // Nothing is learned yet.
    stepping.handle().token().await.unwrap();
    assert_eq!(world.requested(), ["read"]);

    world.with(|state| state.wanted = vec!["write"]);
    send(&stepping.layer(world.api()), get("/")).await.unwrap();
    let other = layer(false).handle().token().await.unwrap();

    assert_eq!(world.requested()[..2], ["read", "read write"]);
    assert!(!other.expose().unwrap().contains("write"));
}
