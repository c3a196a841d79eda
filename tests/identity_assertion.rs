//! Identity assertion grants: a token of an identity provider becomes an assertion, and that an access token. Both are
//! cached.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::json;
use support::server::{Server, handle};
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{
        IdentityAssertion, ProtectedResource, Secret, SecretSource, TokenError,
        TokenErrorKind as Kind, TokenExchange, TokenScope,
    },
    test_util::MemoryTokenStore,
};

const PROVIDER: &str = "https://idp.example/token";
const ISSUER: &str = "https://as.example";
const TOKEN: &str = "https://as.example/token";
const API: &str = "https://api.example/mcp";
/// Lifetime of an assertion, in seconds.
const ASSERTION: u64 = 300;

/// A provider that issues `jag-1`, `jag-2` and so on, and an authorization server.
struct World {
    server: Server,
    /// Response of the authorization server to the next token request; then it grants tokens.
    refusal: Arc<Mutex<Option<(u16, String)>>>,
    /// Number of assertions issued.
    issued: Arc<AtomicUsize>,
    /// Lifetime of access tokens, in seconds.
    lifetime: u64,
}

impl World {
    fn new(lifetime: u64) -> Self {
        let (refusal, issued) = (
            Arc::<Mutex<Option<_>>>::default(),
            Arc::<AtomicUsize>::default(),
        );
        let (next, count) = (Arc::clone(&refusal), Arc::clone(&issued));
        let server = Server::serving(move |url| match url {
            PROVIDER => (
                200,
                assertion(count.fetch_add(1, SeqCst) + 1, TokenExchange::ID_JAG),
            ),
            TOKEN => next
                .lock()
                .unwrap()
                .take()
                .unwrap_or_else(|| (200, granted(lifetime))),
            url => (200, metadata(url)),
        });
        Self {
            server,
            refusal,
            issued,
            lifetime,
        }
    }

    fn provider(&self) -> TokenEndpoint {
        TokenEndpoint::new(
            PROVIDER.parse().unwrap(),
            ClientAuth::none("client at the provider"),
        )
        .service(self.server.service())
    }

    fn endpoint(&self, grant: IdentityAssertion) -> TokenEndpoint {
        TokenEndpoint::new(
            TOKEN.parse().unwrap(),
            ClientAuth::post("client", "client secret"),
        )
        .service(self.server.service())
        .issuer(ISSUER)
        .grant(grant)
        .retries(0)
    }

    fn grant(&self) -> IdentityAssertion {
        IdentityAssertion::new(self.provider(), "subject-7f3a", TokenExchange::ID_TOKEN)
    }

    fn refuse(&self, status: u16, error: &str) {
        let body = json!({ "error": error, "error_description": "not jag-1" }).to_string();
        *self.refusal.lock().unwrap() = Some((status, body));
    }

    /// The assertions that the authorization server received.
    fn assertions(&self) -> Vec<String> {
        let requests = self.server.requests();
        let at_endpoint = requests.iter().filter(|request| request.url == TOKEN);
        at_endpoint
            .map(|request| request.form_value("assertion").unwrap().to_owned())
            .collect()
    }
}

fn assertion(number: usize, issued: &str) -> String {
    json!({
        "access_token": format!("jag-{number}"),
        "issued_token_type": issued,
        "token_type": "N_A",
        "expires_in": ASSERTION,
    })
    .to_string()
}

fn granted(lifetime: u64) -> String {
    json!({ "access_token": "token", "token_type": "Bearer", "expires_in": lifetime }).to_string()
}

fn metadata(url: &str) -> String {
    let document = match url {
        API => json!({}),
        url if url.contains("protected-resource") => {
            json!({ "resource": API, "authorization_servers": [ISSUER] })
        }
        _ => json!({
            "issuer": ISSUER,
            "token_endpoint": TOKEN,
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }),
    };
    document.to_string()
}

#[tokio::test(start_paused = true)]
async fn the_subject_token_becomes_an_assertion_and_that_a_token() {
    let world = World::new(3600);
    let endpoint = world
        .endpoint(world.grant())
        .scope("read write")
        .resource(API);

    let token = handle(endpoint).token().await.unwrap();

    assert_eq!(token.expose(), Some("token"));
    let requests = world.server.requests();
    let [exchange, grant] = &requests[..] else {
        panic!("{:?}", world.server.urls());
    };
    assert_eq!(exchange.url, PROVIDER);
    for (name, value) in [
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        ("subject_token", "subject-7f3a"),
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:id_token",
        ),
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:id-jag",
        ),
        ("audience", ISSUER),
        ("resource", API),
        ("scope", "read write"),
        ("client_id", "client at the provider"),
    ] {
        assert_eq!(exchange.form_value(name), Some(value), "{name}");
    }
    assert_eq!(exchange.form_value("client_secret"), None);
    assert_eq!(grant.url, TOKEN);
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", "jag-1"),
        ("scope", "read write"),
        ("resource", API),
        ("client_id", "client"),
        ("client_secret", "client secret"),
    ] {
        assert_eq!(grant.form_value(name), Some(value), "{name}");
    }
    assert_eq!(grant.form_value("subject_token"), None);
}

#[tokio::test(start_paused = true)]
async fn issuer_and_resource_may_be_found_by_the_api() {
    let world = World::new(3600);
    let resource = ProtectedResource::new(API.parse().unwrap());
    let auth = ClientAuth::post("client", "client secret");
    let endpoint = TokenEndpoint::for_resource(resource, auth)
        .service(world.server.service())
        .grant(world.grant());

    handle(endpoint).token().await.unwrap();

    let requests = world.server.requests();
    let exchange = requests
        .iter()
        .find(|request| request.url == PROVIDER)
        .unwrap();
    assert_eq!(exchange.form_value("audience"), Some(ISSUER));
    assert_eq!(exchange.form_value("resource"), Some(API));
    assert_eq!(
        world.server.last_request().form_value("resource"),
        Some(API)
    );
}

#[tokio::test(start_paused = true)]
async fn both_tokens_are_cached() {
    let world = World::new(60);
    let tokens = handle(world.endpoint(world.grant()));

    tokens.token().await.unwrap();
    tokens.token().await.unwrap();
    assert_eq!(world.assertions(), ["jag-1"]);
    // Each access token expires after a minute, the assertion after five.
    for _ in 0..4 {
        tokio::time::advance(Duration::from_secs(61)).await;
        tokens.token().await.unwrap();
    }
    assert_eq!(world.assertions(), ["jag-1"; 5]);
    tokio::time::advance(Duration::from_secs(61)).await;
    tokens.token().await.unwrap();

    assert_eq!(world.assertions().last().unwrap(), "jag-2");
    assert_eq!((world.issued.load(SeqCst), world.lifetime), (2, 60));
}

#[tokio::test(start_paused = true)]
async fn an_assertion_is_used_until_shortly_before_it_expires() {
    // Half a minute before, or a quarter of its lifetime.
    for (lifetime, usable) in [(300, 270), (60, 45), (0, 0)] {
        let world = World::new(60);
        let count = AtomicUsize::new(0);
        world.server.answer(move |url| match url {
            PROVIDER => {
                let number = count.fetch_add(1, SeqCst) + 1;
                let mut issued: serde_json::Value =
                    serde_json::from_str(&assertion(number, TokenExchange::ID_JAG)).unwrap();
                issued["expires_in"] = lifetime.into();
                (200, issued.to_string())
            }
            _ => (200, granted(60)),
        });
        let tokens = handle(world.endpoint(world.grant()));
        tokens.token().await.unwrap();
        if usable > 0 {
            tokio::time::advance(Duration::from_secs(usable) - Duration::from_millis(1)).await;
            tokens.refresh_now().await.unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
        }

        tokens.refresh_now().await.unwrap();

        let (last, earlier) = (world.assertions().pop(), world.assertions().len() - 1);
        assert_eq!(last.as_deref(), Some("jag-2"), "{lifetime}");
        assert!(
            world.assertions()[..earlier]
                .iter()
                .all(|sent| sent == "jag-1")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_another_subject_token_ends_the_backoff() {
    let world = World::new(60);
    let subject = Arc::new(Mutex::new("one"));
    let grant = IdentityAssertion::new(
        world.provider(),
        replaceable(&subject),
        TokenExchange::ID_TOKEN,
    );
    let tokens = handle(world.endpoint(grant));
    world.refuse(400, "invalid_grant");
    tokens.token().await.unwrap_err();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokens.token().await.unwrap_err();
    assert_eq!(world.assertions(), ["jag-1"]);

    *subject.lock().unwrap() = "two";
    tokio::time::advance(Duration::from_secs(6)).await;
    tokens.token().await.unwrap();

    assert_eq!(world.assertions(), ["jag-1", "jag-2"]);
}

#[tokio::test(start_paused = true)]
async fn each_set_of_scopes_has_an_assertion_of_its_own() {
    let world = World::new(60);
    let tokens = handle(world.endpoint(world.grant()));
    let [read, write] = ["read", "write"].map(|scope| TokenScope::new().scope(scope));

    for scope in [&read, &write, &read, &write] {
        tokens.scoped(scope).refresh_now().await.unwrap();
    }

    assert_eq!(world.assertions(), ["jag-1", "jag-2", "jag-1", "jag-2"]);
}

#[tokio::test(start_paused = true)]
async fn an_assertion_that_was_used_before_is_replaced_if_it_is_rejected() {
    let world = World::new(60);
    let tokens = handle(world.endpoint(world.grant()));
    tokens.token().await.unwrap();
    world.refuse(400, "invalid_grant");

    tokens.refresh_now().await.unwrap();

    assert_eq!(world.assertions(), ["jag-1", "jag-1", "jag-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_assertion_that_is_rejected_is_an_error() {
    let world = World::new(60);
    world.refuse(400, "invalid_grant");

    let error = handle(world.endpoint(world.grant()))
        .token()
        .await
        .unwrap_err();

    assert_eq!(error.kind(), Kind::Rejected);
    assert_eq!(world.assertions(), ["jag-1"]);
    // The server quoted the assertion.
    assert!(!error.to_string().contains("jag-1"), "{error}");
    assert!(error.to_string().contains(TOKEN), "{error}");
}

#[tokio::test(start_paused = true)]
async fn another_subject_token_gets_another_assertion() {
    let world = World::new(60);
    let subject = Arc::new(Mutex::new("one"));
    let source = Arc::clone(&subject);
    let read = move || {
        let subject = Secret::from(*source.lock().unwrap());
        async move { Ok::<_, TokenError>(subject) }
    };
    let grant = IdentityAssertion::new(world.provider(), read, TokenExchange::ID_TOKEN);
    let tokens = handle(world.endpoint(grant));
    tokens.token().await.unwrap();
    tokens.refresh_now().await.unwrap();
    *subject.lock().unwrap() = "two";

    tokens.refresh_now().await.unwrap();

    assert_eq!(world.assertions(), ["jag-1", "jag-1", "jag-2"]);
}

/// A subject token that the test replaces.
fn replaceable(subject: &Arc<Mutex<&'static str>>) -> impl SecretSource {
    let subject = Arc::clone(subject);
    move || {
        let subject = Secret::from(*subject.lock().unwrap());
        async move { Ok::<_, TokenError>(subject) }
    }
}

#[tokio::test(start_paused = true)]
async fn assertions_of_an_earlier_subject_are_not_used_for_other_scopes() {
    // The second one has no cache key, because the certificate of the service is not known.
    for auth in [ClientAuth::none("client"), ClientAuth::tls("client")] {
        let world = World::new(60);
        let provider = TokenEndpoint::new(PROVIDER.parse().unwrap(), auth);
        let provider = provider.service(world.server.service());
        let subject = Arc::new(Mutex::new("one"));
        let source = replaceable(&subject);
        let grant = IdentityAssertion::new(provider, source, TokenExchange::ID_TOKEN);
        let tokens = handle(world.endpoint(grant));
        let [read, write] = ["read", "write"].map(|scope| TokenScope::new().scope(scope));
        tokens.scoped(&read).refresh_now().await.unwrap();
        *subject.lock().unwrap() = "two";

        // The second request does not find an assertion, and its exchange reads the new subject.
        for scope in [&write, &read, &write] {
            tokens.scoped(scope).refresh_now().await.unwrap();
        }

        assert_eq!(world.assertions(), ["jag-1", "jag-2", "jag-3", "jag-2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_another_grant_saw_first_is_not_missed() {
    let world = World::new(60);
    let subject = Arc::new(Mutex::new("one"));
    let source = replaceable(&subject);
    let grant = IdentityAssertion::new(world.provider(), source, TokenExchange::ID_TOKEN);
    // Shares the subject, and not the assertions.
    let other = handle(world.endpoint(grant.clone().audience(ISSUER)));
    let tokens = handle(world.endpoint(grant));
    tokens.token().await.unwrap();
    *subject.lock().unwrap() = "two";
    other.token().await.unwrap();

    tokens.refresh_now().await.unwrap();
    tokens.refresh_now().await.unwrap();

    assert_eq!(world.assertions(), ["jag-1", "jag-2", "jag-3", "jag-3"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_client_at_the_provider_is_not_stored() {
    for (rejected, stored) in [("none", 1), ("new", 2)] {
        let world = World::new(3600);
        let secret = Arc::new(Mutex::new("old"));
        let auth = ClientAuth::post("client at the provider", replaceable(&secret));
        let server = Server::granting();
        let log = server.clone();
        server.answer(move |url| {
            let request = log.last_request();
            match request.form_value("client_secret") {
                Some(secret) if secret == rejected => {
                    (401, json!({ "error": "invalid_client" }).to_string())
                }
                _ if url == PROVIDER => (200, assertion(1, TokenExchange::ID_JAG)),
                _ => (200, granted(3600)),
            }
        });
        let provider =
            TokenEndpoint::new(PROVIDER.parse().unwrap(), auth).service(server.service());
        let grant = IdentityAssertion::new(provider, "subject-7f3a", TokenExchange::ID_TOKEN);
        let endpoint = || world.endpoint(grant.clone()).service(server.service());
        let store = MemoryTokenStore::new();
        let process = || {
            let builder = ClientCredentialsLayer::builder(endpoint(), support::origin());
            builder.store(store.clone()).build().handle()
        };
        handle(endpoint()).token().await.unwrap();
        *secret.lock().unwrap() = "new";

        // The provider accepts only the old secret, or both.
        process().token().await.unwrap();
        process().token().await.unwrap();

        let requests = server.requests();
        let granted = requests.iter().filter(|request| request.url == TOKEN);
        assert_eq!(granted.count(), 1 + stored, "{rejected}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_provider_is_named_if_it_refuses() {
    for (status, body, kind) in [
        (
            400,
            json!({ "error": "invalid_grant" }).to_string(),
            Kind::Rejected,
        ),
        (
            401,
            json!({ "error": "invalid_client" }).to_string(),
            Kind::InvalidClient,
        ),
        (503, String::new(), Kind::Server),
        (
            200,
            json!({ "token_type": "N_A" }).to_string(),
            Kind::InvalidResponse,
        ),
        (
            200,
            assertion(1, TokenExchange::ACCESS_TOKEN),
            Kind::InvalidResponse,
        ),
        // The type is required.
        (
            200,
            json!({ "access_token": "jag-1", "token_type": "N_A", "expires_in": 300 }).to_string(),
            Kind::InvalidResponse,
        ),
        (
            200,
            json!({ "access_token": "jag-1", "token_type": "Bearer", "expires_in": 300 })
                .to_string(),
            Kind::InvalidResponse,
        ),
    ] {
        let world = World::new(60);
        world.server.answer(move |_| (status, body.clone()));

        let error = handle(world.endpoint(world.grant()))
            .token()
            .await
            .unwrap_err();

        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(world.server.urls(), [PROVIDER], "{error}");
        assert!(error.to_string().contains(PROVIDER), "{error}");
        for secret in ["subject-7f3a", "client secret", "jag-1"] {
            assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_does_not_cost_another_assertion() {
    let world = World::new(60);
    let endpoint = world.endpoint(world.grant()).retries(2);
    *world.refusal.lock().unwrap() = Some((503, String::new()));

    handle(endpoint).token().await.unwrap();

    assert_eq!(world.assertions(), ["jag-1", "jag-1"]);
    assert_eq!(world.issued.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_audience_must_be_known() {
    let world = World::new(60);
    let uri = TOKEN.parse().unwrap();
    let auth = || ClientAuth::post("client", "client secret");
    let unknown = TokenEndpoint::new(uri, auth()).grant(world.grant());
    assert_eq!(unknown.validate().unwrap_err().kind(), Kind::Configuration);

    let endpoint = world.endpoint(world.grant().audience("https://other.example"));
    handle(endpoint).token().await.unwrap();
    let exchange = &world.server.requests()[0];
    assert_eq!(
        exchange.form_value("audience"),
        Some("https://other.example")
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_the_api_chooses_gets_no_assertion_for_another() {
    let world = World::new(60);
    let found = |resource: ProtectedResource, grant: IdentityAssertion| {
        TokenEndpoint::for_resource(resource, ClientAuth::post("client", "client secret"))
            .service(world.server.service())
            .grant(grant)
    };
    let any = || ProtectedResource::new(API.parse().unwrap());
    let fixed = || world.grant().audience("https://other.example");
    for wrong in [
        found(any(), fixed()),
        found(any(), world.grant()).issuer("https://other.example"),
    ] {
        let error = handle(wrong).token().await.unwrap_err();

        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains("allow_issuer"), "{error}");
        assert_eq!(world.server.urls(), [""; 0]);
    }
    for endpoint in [
        found(any(), world.grant()),
        found(any().allow_issuer(ISSUER), fixed()),
        found(any().allow_issuer(ISSUER), world.grant()).issuer("https://other.example"),
    ] {
        handle(endpoint).token().await.unwrap();
    }
}

#[test]
fn secrets_are_not_printed() {
    let world = World::new(60);
    let text = format!("{:?} {:?}", world.grant(), world.endpoint(world.grant()));
    for secret in ["subject-7f3a", "client secret"] {
        assert!(!text.contains(secret), "{text}");
    }
    let exchange = TokenExchange::new("subject-7f3a", TokenExchange::ID_TOKEN);
    assert!(format!("{exchange:?}").contains(TokenExchange::ID_TOKEN));
    let grant = format!("{:?}", world.grant().audience("https://id.example"));
    assert!(grant.contains("https://id.example"), "{grant}");
}
