//! Tokens by request: a `TokenScope` in the extensions chooses among the tokens of one credential.

mod support;

use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode, header};
use serde_json::json;
use support::{
    Body, HOUR, Inner, SECOND, get, send,
    server::{Server, layer},
    spawn,
};
use tokio::time::sleep;
use tower::{Layer, service_fn, util::BoxCloneService};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer, TokenEndpoint,
    client_credentials::{
        AccessToken, FetchContext, Grant, TokenError, TokenErrorKind as Kind, TokenEvent,
        TokenScope, TokenSource,
    },
    test_util::MemoryTokenStore,
};

/// Issues tokens that are numbered, and records what they are requested for.
fn server() -> Server {
    let issued = Mutex::new(0);
    Server::serving(move |_| {
        let mut issued = issued.lock().unwrap();
        *issued += 1;
        let token = json!({
            "access_token": format!("token-{issued}"),
            "token_type": "Bearer",
            "expires_in": 300,
        });
        (200, token.to_string())
    })
}

fn endpoint(server: &Server) -> TokenEndpoint {
    server
        .endpoint(ClientAuth::basic("id", "secret"))
        .scope("read")
        .audience("api")
        .parameter("tenant", "t")
}

/// Returns the token in the body.
fn api() -> Inner {
    Inner::new(service_fn(async |request: Request<Body>| {
        let token = request.headers()[header::AUTHORIZATION].as_bytes();
        Ok::<_, BoxError>(Response::new(Body::from(token.to_vec())))
    }))
}

fn scoped(scope: &TokenScope) -> Request<Body> {
    let mut request = get("/");
    request.extensions_mut().insert(scope.clone());
    request
}

/// The token that a request was sent with.
async fn token(service: &impl support::Client, request: Request<Body>) -> String {
    use http_body_util::BodyExt;
    let response = send(service, request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_set_has_a_token_of_its_own() {
    for combined in [false, true] {
        let server = server();
        let credentials = layer(endpoint(&server)).build();
        let service = match combined {
            false => BoxCloneService::new(credentials.layer(api())),
            true => {
                let limits = RateLimitRetryLayer::new();
                BoxCloneService::new(M2mLayer::new(limits, credentials).layer(api()))
            }
        };
        let write = TokenScope::new().scope("write");
        let other = TokenScope::new()
            .audience("other")
            .resource("urn:b")
            .add_scope("more");

        for _ in 0..3 {
            assert_eq!(token(&service, get("/")).await, "Bearer token-1");
            assert_eq!(token(&service, scoped(&write)).await, "Bearer token-2");
            assert_eq!(token(&service, scoped(&other)).await, "Bearer token-3");
            // The default set.
            let same = scoped(&TokenScope::new());
            assert_eq!(token(&service, same).await, "Bearer token-1");
        }

        let asked: Vec<_> = server
            .requests()
            .iter()
            .map(|asked| {
                ["scope", "audience", "resource", "tenant"]
                    .map(|name| asked.form_value(name).map(str::to_owned))
            })
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            asked,
            [
                [some("read"), some("api"), None, some("t")],
                [some("write"), some("api"), None, some("t")],
                [some("read more"), some("other"), some("urn:b"), some("t")],
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_requests_of_a_set_share_one_token_request() {
    let server = server();
    let service = layer(endpoint(&server)).build().layer(api());
    let scopes = ["a", "b", "c"].map(|scope| TokenScope::new().scope(scope));

    let calls = (0..90).map(|index| spawn(&service, scoped(&scopes[index % 3])));
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }

    assert_eq!(server.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_one_set_does_not_affect_the_others() {
    let server = Server::serving(|_| (400, r#"{"error":"invalid_scope"}"#.to_owned()));
    let service = layer(endpoint(&server)).build().layer(api());
    let bad = TokenScope::new().scope("bad");
    let error = send(&service, scoped(&bad)).await.unwrap_err();
    let error = error.downcast::<TokenError>().unwrap();
    assert_eq!(error.kind(), Kind::InvalidScope);

    server.answer(|_| (200, support::server::GRANTED.to_owned()));
    assert_eq!(token(&service, get("/")).await, "Bearer token");
    // Its own back-off.
    send(&service, scoped(&bad)).await.unwrap_err();

    assert_eq!(server.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_of_a_set_is_replaced_alone() {
    let server = server();
    let rejected = Arc::new(Mutex::new(String::new()));
    let now_rejected = Arc::clone(&rejected);
    let inner = service_fn(move |request: Request<Body>| {
        let token = request.headers()[header::AUTHORIZATION].clone();
        let is_rejected = token == now_rejected.lock().unwrap().as_str();
        async move {
            let mut response = Response::new(Body::from(token.as_bytes().to_vec()));
            if is_rejected {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
            }
            Ok::<_, BoxError>(response)
        }
    });
    let service = layer(endpoint(&server)).build().layer(inner);
    let write = TokenScope::new().scope("write");
    token(&service, get("/")).await;
    token(&service, scoped(&write)).await;

    *rejected.lock().unwrap() = "Bearer token-2".into();

    assert_eq!(token(&service, scoped(&write)).await, "Bearer token-3");
    assert_eq!(token(&service, get("/")).await, "Bearer token-1");
    assert_eq!(server.last_request().form_value("scope"), Some("write"));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_tokens_is_bounded_and_idle_ones_are_forgotten() {
    let server = server();
    let credentials = layer(endpoint(&server)).max_token_scopes(2).build();
    let service = credentials.layer(api());
    let [a, b, c] = ["a", "b", "c"].map(|scope| TokenScope::new().scope(scope));
    for scope in [&a, &b, &c, &c, &b] {
        token(&service, scoped(scope)).await;
    }
    assert_eq!(server.requests().len(), 3);
    // The one that was not used for longest.
    token(&service, scoped(&a)).await;
    assert_eq!(server.requests().len(), 4);
    sleep(HOUR).await;
    token(&service, scoped(&c)).await;
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn handles_errors_and_events_name_the_set() {
    let server = server();
    let names = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&names);
    let credentials = layer(endpoint(&server))
        .name("orders")
        .on_event(move |event| {
            if let TokenEvent::Fetched { credential, .. } = event {
                seen.lock().unwrap().push(credential.unwrap().to_owned());
            }
        })
        .build();
    let write = TokenScope::new().scope("b a");
    let named = TokenScope::new().scope("b a").name("admin");
    let handle = credentials.handle();

    handle.token().await.unwrap();
    let of_write = handle.scoped(&write).token().await.unwrap();
    handle.scoped(&named).token().await.unwrap();

    assert_eq!(
        *names.lock().unwrap(),
        ["orders", "orders/a b", "orders/admin"]
    );
    // The same token as requests have.
    let service = credentials.layer(api());
    let sent = token(&service, scoped(&write)).await;
    assert_eq!(sent.strip_prefix("Bearer "), of_write.expose());
    server.answer(|_| (400, r#"{"error":"invalid_scope"}"#.to_owned()));
    let error = handle.scoped(&TokenScope::new().scope("c")).token().await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("\"orders/c\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_all_sets() {
    let server = server();
    let at = "https://id.example/revoke".parse::<http::Uri>().unwrap();
    let handle = layer(endpoint(&server).revoke_on_shutdown(at))
        .build()
        .handle();
    let write = TokenScope::new().scope("write");
    handle.token().await.unwrap();
    handle.scoped(&write).token().await.unwrap();

    handle.shutdown().await;

    let revoked = server.requests();
    let revoked: Vec<_> = revoked
        .iter()
        .filter_map(|asked| asked.form_value("token"))
        .collect();
    assert_eq!(revoked, ["token-1", "token-2"]);
    let later = TokenScope::new().scope("later");
    for scope in [&write, &later] {
        let error = handle.scoped(scope).token().await.unwrap_err();
        assert_eq!(error.kind(), Kind::ShutDown);
    }
}

#[tokio::test(start_paused = true)]
async fn sets_are_separate_in_a_store_as_well() {
    let server = server();
    let store = MemoryTokenStore::new();
    let write = TokenScope::new().scope("write");
    let same = TokenScope::new().scope("write").name("another name");
    for (scope, requests) in [
        (TokenScope::new(), 1),
        (write.clone(), 2),
        (same, 2),
        (TokenScope::new(), 2),
        (TokenScope::new().audience("write"), 3),
    ] {
        let credentials = layer(endpoint(&server)).store(store.clone()).build();

        token(&credentials.layer(api()), scoped(&scope)).await;

        assert_eq!(server.requests().len(), requests, "{scope:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_of_the_programs_own_sees_the_set() {
    struct Own;
    impl TokenSource for Own {
        async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
            let scope = cx.token_scope();
            let text = scope.map_or("default".into(), |scope| {
                let scopes: Vec<_> = scope.scopes().chain(scope.audiences()).collect();
                scopes.join("-")
            });
            Ok(AccessToken::new(text).expires_in(60 * SECOND))
        }
    }
    let origin = support::API.parse().unwrap();
    let service = ClientCredentialsLayer::builder(Own, origin)
        .build()
        .layer(api());

    let scope = TokenScope::new().scope("b a").audience("x");
    assert_eq!(token(&service, get("/")).await, "Bearer default");
    assert_eq!(token(&service, scoped(&scope)).await, "Bearer a-b-x");
}

#[tokio::test(start_paused = true)]
async fn scopes_of_a_set_go_where_the_grant_has_them() {
    let server = server();
    let grant = Grant::custom("x", [("key", "value")]);
    let credentials = layer(endpoint(&server).grant(grant)).build();
    let scope = TokenScope::new().scope("write");

    credentials.handle().scoped(&scope).token().await.unwrap();

    let asked = server.last_request();
    assert_eq!(asked.form_value("scope"), Some("write"));
    assert_eq!(asked.form_value("key"), Some("value"));
}
