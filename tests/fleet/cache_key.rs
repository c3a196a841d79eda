//! Which processes share a token, and which never do.

use std::sync::{Arc, Mutex};

use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{
        AccessToken, ClientAuthentication, FetchContext, Grant, RevocationEndpoint, RevokeContext,
        TokenError, TokenErrorKind, TokenRequest, TokenSource,
    },
    store::CacheKey,
};

use crate::world::{World, all_succeed};

fn basic() -> ClientAuth {
    ClientAuth::basic("id", "secret")
}

#[tokio::test(start_paused = true)]
async fn different_configurations_do_not_share_a_token() {
    let world = World::new();
    let plain = || world.endpoint(basic());
    let different: Vec<TokenEndpoint> = vec![
        plain(),
        world.endpoint(ClientAuth::post("id", "secret")),
        world.endpoint(ClientAuth::basic("id2", "secret")),
        plain().scope("a"),
        plain().scope("a b"),
        plain().audience("a"),
        plain().resource("https://a.example"),
        plain()
            .resource("https://a.example")
            .resource("https://b.example"),
        plain().parameter("tenant", "a"),
        plain().parameter("tenant", "b"),
        plain().authorization_details(serde_json::json!([{ "type": "a" }])),
        plain().issuer("https://a.example"),
        TokenEndpoint::new(
            format!("{}?tenant=a", world.issuer.token_url())
                .parse()
                .unwrap(),
            basic(),
        )
        .service(world.issuer.service()),
    ];

    let all = different.len() as u64;
    for endpoint in different {
        world
            .process_with(endpoint)
            .handle
            .prefetch()
            .await
            .unwrap();
    }

    assert_eq!(world.token_requests(), all);
}

#[tokio::test(start_paused = true)]
async fn the_order_of_scopes_makes_no_difference() {
    let world = World::new();
    for scope in ["a b", "b a"] {
        let endpoint = world.endpoint(basic()).scope(scope);
        world
            .process_with(endpoint)
            .handle
            .prefetch()
            .await
            .unwrap();
    }

    assert_eq!(world.token_requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn subject_and_actor_tokens_are_part_of_the_cache_key() {
    let identity = async |grant: Grant| {
        let world = World::new();
        world.endpoint(basic()).grant(grant).cache_key().await
    };
    let exchange = |subject: &'static str, kind: &'static str| Grant::token_exchange(subject, kind);

    let all = [
        identity(Grant::client_credentials()).await,
        identity(exchange("a", "x")).await,
        identity(exchange("b", "x")).await,
        identity(exchange("a", "y")).await,
        identity(Grant::jwt_bearer("a")).await,
    ];

    for (index, one) in all.iter().enumerate() {
        assert!(one.is_some());
        assert!(all[index + 1..].iter().all(|other| other != one));
    }
    assert!(identity(exchange("a", "x")).await == all[1]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_never_reads_a_stored_token() {
    let world = World::new();
    all_succeed(&world.fleet(1)).await;

    let wrong = world.process_with(world.endpoint(ClientAuth::basic("id", "wrong")));

    let error = wrong.handle.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::InvalidClient);
}

#[tokio::test(start_paused = true)]
async fn a_token_issued_for_an_older_secret_is_not_stored_under_the_new_one() {
    let world = World::new();
    let secret = Arc::new(Mutex::new("secret"));
    let source = Arc::clone(&secret);
    let auth = ClientAuth::basic("id", move || {
        let now = *source.lock().unwrap();
        async move { Ok::<_, TokenError>(now.into()) }
    });
    let rotating = world.process_with(world.endpoint(auth));
    rotating.handle.prefetch().await.unwrap();

    // The file has the new secret before the server knows it.
    *secret.lock().unwrap() = "new";
    rotating.handle.refresh_now().await.unwrap();
    let other = world.process_with(world.endpoint(ClientAuth::basic("id", "new")));

    let error = other.handle.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::InvalidClient);
}

struct Own;

impl TokenSource for Own {
    async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        Ok(AccessToken::new("own").expires_in(crate::world::LEASE))
    }
}

struct OwnAuth;

impl ClientAuthentication for OwnAuth {
    async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        request.parameter("client_id", "id");
        request.parameter("client_secret", "secret");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_without_a_cache_key_is_not_shared() {
    let world = World::new();
    world.process_with(Own).handle.prefetch().await.unwrap();
    for _ in 0..2 {
        let endpoint = world.endpoint(ClientAuth::custom(OwnAuth));
        world
            .process_with(endpoint)
            .handle
            .prefetch()
            .await
            .unwrap();
    }
    let tls = world.endpoint(ClientAuth::tls("id"));

    // Only the HTTP client knows the certificate.
    assert!(tls.cache_key().await.is_none());
    assert_eq!(world.token_requests(), 2);
    assert_eq!(world.store.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_revoked_on_shutdown_cannot_be_shared() {
    let world = World::new();
    let endpoint = world
        .endpoint(basic())
        .revoke_on_shutdown(RevocationEndpoint::Discovered);

    let process = world.process_with(endpoint);

    let error = process.handle.prefetch().await.unwrap_err();

    assert_eq!(error.kind(), TokenErrorKind::Configuration);
    assert!(error.to_string().contains("`.revoke_on_shutdown(..)`"));
    assert!(!error.is_transient());
    assert_eq!((world.token_requests(), world.store.calls()), (0, 0));
}

/// Revokes tokens, although it says that it does not.
struct Revoking(Arc<Mutex<Vec<String>>>);

impl TokenSource for Revoking {
    async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        Ok(AccessToken::new("token").expires_in(crate::world::LEASE))
    }

    fn revoke<'a>(
        &'a self,
        token: &'a AccessToken,
        _: RevokeContext<'a>,
    ) -> Option<impl Future<Output = Result<(), TokenError>> + Send + 'a> {
        self.0.lock().unwrap().push(token.expose()?.to_owned());
        Some(std::future::ready(Ok(())))
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        Some(CacheKey::new("revoking"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_other_processes_use_is_not_revoked_on_shutdown() {
    let world = World::new();
    let revoked = Arc::<Mutex<Vec<String>>>::default();
    let process = world.process_with(Revoking(Arc::clone(&revoked)));
    process.handle.prefetch().await.unwrap();

    process.handle.shutdown().await;

    assert!(revoked.lock().unwrap().is_empty());
    let other = world.process_with(Revoking(Arc::clone(&revoked)));
    other.handle.prefetch().await.unwrap();
    assert_eq!(other.take_events(), ["adopted"]);
}
