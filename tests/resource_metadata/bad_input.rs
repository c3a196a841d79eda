//! Metadata that must not be used: an error that says what to check, no token request, and a bounded number of requests.

use std::time::Duration;

use serde_json::{Value, json};
use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{ProtectedResource, TokenErrorKind as Kind},
};

use crate::world::{
    ANNOUNCED, API, ISSUER, OAUTH, Page, ROOT, TOKEN, WELL_KNOWN, World, issuer, protected,
    resource, with,
};

/// The error for an API whose metadata is `document`.
async fn error(document: Value) -> String {
    let world = World::new();
    world.json(WELL_KNOWN, &document);
    let error = world.error(protected()).await;
    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Discovery, false),
        "{error}"
    );
    // The error names the API, and nothing else was requested.
    assert!(error.to_string().contains(API), "{error}");
    assert_eq!(world.urls(), [API, WELL_KNOWN], "{error}");
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn metadata_of_another_resource_is_not_used() {
    for other in [
        "https://api.example",
        "https://evil.example/mcp",
        "https://api.example/mcp/",
    ] {
        let text = error(with(resource(), "resource", json!(other))).await;
        assert!(
            text.contains(&format!("names another resource, {other:?}")),
            "{text}"
        );
        assert!(text.contains("`TokenEndpoint::for_resource`"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn servers_that_must_not_receive_credentials_are_not_used() {
    for issuer in [
        "http://id.example",
        "http://127.0.0.1:9000",
        "https://[::1]:9000",
        "https://id.example/?a",
    ] {
        let servers = json!([issuer]);
        let text = error(with(resource(), "authorization_servers", servers)).await;
        assert!(
            text.contains(issuer) && text.contains("https URL"),
            "{text}"
        );
    }
    for none in [json!(null), json!("https://id.example"), json!({})] {
        let text = error(with(resource(), "authorization_servers", none)).await;
        assert!(text.contains("`TokenEndpoint::discover`"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_allowed_gets_nothing() {
    let world = World::announcing("");

    let error = world
        .error(protected().allow_issuer("https://id.example"))
        .await;

    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Discovery, false)
    );
    let text = error.to_string();
    assert!(
        text.contains(ISSUER) && text.contains("allow_issuer"),
        "{text}"
    );
    assert_eq!(world.urls(), [API, ANNOUNCED]);
}

#[tokio::test(start_paused = true)]
async fn metadata_at_another_origin_is_not_requested() {
    for other in [
        "https://evil.example/metadata",
        "https://api.example:8443/metadata",
        "http://api.example/metadata",
        "https://api.example@evil.example/metadata",
        "/relative",
        "not-a-url",
    ] {
        let world = World::new();
        world.challenge(&format!("Bearer resource_metadata=\"{other}\""));

        let error = world.error(protected()).await;

        assert_eq!(
            (error.kind(), error.is_transient()),
            (Kind::Discovery, false)
        );
        assert!(error.to_string().contains("at another origin"), "{error}");
        assert_eq!(world.urls(), [API], "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn redirects_are_not_followed() {
    let world = World::announcing("");
    for url in [ANNOUNCED, WELL_KNOWN, ROOT] {
        world.page(url, Page::Redirect("https://evil.example/".into()));
    }

    let error = world.error(protected()).await;

    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Discovery, false)
    );
    let text = error.to_string();
    for url in [ANNOUNCED, WELL_KNOWN, ROOT] {
        assert!(text.contains(&format!("{url} returned 302")), "{text}");
    }
    assert_eq!(world.urls(), [API, ANNOUNCED, WELL_KNOWN, ROOT]);

    // A redirect of the API itself is no challenge.
    let world = World::new();
    world.page(API, Page::Redirect("https://evil.example/".into()));
    world
        .handle(world.endpoint(protected()))
        .token()
        .await
        .unwrap();
    assert_eq!(world.urls(), [API, WELL_KNOWN, OAUTH, TOKEN]);
}

#[tokio::test(start_paused = true)]
async fn huge_metadata_is_not_read_to_its_end() {
    let world = World::new();
    let huge = with(resource(), "padding", json!("x".repeat(10 << 20)));
    world.json(WELL_KNOWN, &huge);

    let error = world.error(protected()).await;

    assert_eq!(error.kind(), Kind::Discovery);
    assert!(
        error.to_string().contains("returned more than 1 MiB"),
        "{error}"
    );
    assert!(error.to_string().len() < 1000);
    assert_eq!(world.urls(), [API, WELL_KNOWN, ROOT]);
}

#[tokio::test(start_paused = true)]
async fn long_lists_and_names_are_cut_in_errors() {
    let many: Vec<_> = (0..10_000).map(|n| format!("http://{n}.example")).collect();
    let text = error(with(resource(), "authorization_servers", json!(many))).await;
    assert!(text.len() < 1000, "{}", text.len());

    let long = format!("https://evil.example/{}", "x".repeat(100_000));
    let text = error(with(resource(), "resource", json!(long))).await;
    assert!(text.len() < 1000, "{}", text.len());
}

#[tokio::test(start_paused = true)]
async fn metadata_that_never_ends_is_left_at_the_deadline() {
    let world = World::new();
    world.page(WELL_KNOWN, Page::Endless(200, String::new()));

    let error = world.error(protected()).await;

    assert_eq!((error.kind(), error.is_transient()), (Kind::Timeout, true));
}

#[tokio::test(start_paused = true)]
async fn a_failing_api_is_transient() {
    for (status, kind) in [
        (429, Kind::Throttled),
        (500, Kind::Server),
        (503, Kind::Server),
    ] {
        let world = World::new();
        world.status(WELL_KNOWN, status);

        let error = world.error(protected()).await;

        assert_eq!(
            (error.kind(), error.is_transient()),
            (kind, true),
            "{error}"
        );
        assert_eq!(world.urls(), [API, WELL_KNOWN]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_with_the_metadata_of_another_gets_nothing() {
    let world = World::new();
    world.json(
        OAUTH,
        &with(issuer(), "issuer", json!("https://honest.example")),
    );

    let error = world.error(protected()).await;

    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Discovery, false)
    );
    let text = error.to_string();
    assert!(
        text.contains("another issuer") && text.contains(ISSUER),
        "{text}"
    );
    assert_eq!(world.urls(), [API, WELL_KNOWN, OAUTH]);
}

#[tokio::test(start_paused = true)]
async fn a_loop_of_failures_is_bounded_by_the_back_off() {
    let world = World::new();
    world.json(
        WELL_KNOWN,
        &with(resource(), "resource", json!("https://evil.example")),
    );
    let handle = world.handle(world.endpoint(protected()));

    for _ in 0..100 {
        handle.token().await.unwrap_err();
        tokio::time::advance(Duration::from_millis(10)).await;
    }

    assert_eq!(world.urls(), [API, WELL_KNOWN]);
}

#[test]
fn a_wrong_resource_is_an_error_before_anything_is_sent() {
    for (resource, says) in [
        ("http://api.example/mcp", "plain http"),
        ("/mcp", "the resource must be an absolute https URL"),
        ("https://user@api.example", "user info"),
    ] {
        let resource = ProtectedResource::new(resource.parse().unwrap());
        let endpoint = TokenEndpoint::for_resource(resource, ClientAuth::basic("id", "secret"));

        let error = endpoint.validate().unwrap_err();

        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains(says), "{error}");
    }
    let loopback: http::Uri = "http://127.0.0.1:8080/mcp".parse().unwrap();
    let auth = ClientAuth::basic("id", "secret");
    TokenEndpoint::for_resource(loopback, auth)
        .validate()
        .unwrap();
}

#[cfg(feature = "jwt")]
#[test]
fn a_client_assertion_for_another_server_needs_an_allowed_issuer() {
    use tower_m2m::client_credentials::{AssertionAudience, RevocationEndpoint};

    let signed = || ClientAuth::client_secret_jwt("id", "a secret of more than thirty-two bytes");
    let with_auth = |resource: ProtectedResource| TokenEndpoint::for_resource(resource, signed());
    let other = "https://other.example";
    let settings: [(bool, fn(TokenEndpoint) -> TokenEndpoint); 5] = [
        (true, |endpoint| endpoint),
        (true, |endpoint| {
            endpoint.assertion_audience(AssertionAudience::TokenEndpoint)
        }),
        (false, |endpoint| endpoint.issuer("https://other.example")),
        (false, |endpoint| {
            endpoint.assertion_audience("https://other.example")
        }),
        (false, |endpoint| {
            endpoint
                .revocation_audience("https://other.example")
                .revoke_on_shutdown(RevocationEndpoint::Discovered)
        }),
    ];
    for (index, (is_valid, set)) in settings.into_iter().enumerate() {
        let error = set(with_auth(protected())).validate().err();

        assert_eq!(error.is_none(), is_valid, "{index} {error:?}");
        if let Some(error) = error {
            assert_eq!(error.kind(), Kind::Configuration);
            assert!(error.to_string().contains("allow_issuer"), "{error}");
        }
        let allowed = set(with_auth(protected().allow_issuer(ISSUER)));
        assert!(allowed.validate().is_ok(), "{index}");
    }
    // A secret has no audience.
    let basic = TokenEndpoint::for_resource(protected(), ClientAuth::basic("id", "secret"));
    assert!(basic.issuer(other).validate().is_ok());
}
