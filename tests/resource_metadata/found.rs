//! What is requested where, and with which parameters.

use bytes::Bytes;
use http_body_util::Full;
use serde_json::json;
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, Clock, SystemClock, TokenEndpoint,
    client_credentials::{ProtectedResource, RevocationEndpoint, TokenScope},
    test_util::{Api, Issuer},
};

use crate::{
    support::in_full,
    world::{
        ANNOUNCED, API, ISSUER, OAUTH, Page, ROOT, TOKEN, WELL_KNOWN, World, issuer, protected,
        resource, with,
    },
};

#[tokio::test(start_paused = true)]
async fn the_challenge_of_the_api_leads_to_the_token() {
    let world = World::announcing("");

    world
        .handle(world.endpoint(protected()))
        .token()
        .await
        .unwrap();

    assert_eq!(world.urls(), [API, ANNOUNCED, OAUTH, TOKEN]);
    assert_eq!(
        world.form(),
        "grant_type=client_credentials&resource=https%3A%2F%2Fapi.example%2Fmcp"
    );
}

#[tokio::test(start_paused = true)]
async fn the_token_is_revoked_where_the_metadata_of_the_issuer_says() {
    let world = World::new();
    world.json(OAUTH, &with(issuer(), "revocation_endpoint", json!(TOKEN)));
    let endpoint = world.endpoint(protected());
    let handle = world.handle(endpoint.revoke_on_shutdown(RevocationEndpoint::Discovered));
    handle.token().await.unwrap();
    world.forget();

    handle.shutdown().await;

    // Nothing is looked up again.
    assert_eq!(world.urls(), [TOKEN]);
    assert_eq!(world.form(), "token=token&token_type_hint=access_token");
}

#[tokio::test(start_paused = true)]
async fn the_api_may_be_probed_by_another_method() {
    let world = World::announcing("");
    world.expect_probe("POST");
    let resource = protected().probe_method(http::Method::POST);

    world
        .handle(world.endpoint(resource))
        .token()
        .await
        .unwrap();

    assert_eq!(world.urls(), [API, ANNOUNCED, OAUTH, TOKEN]);
}

#[tokio::test(start_paused = true)]
async fn without_a_challenge_the_well_known_url_is_requested() {
    for status in [200, 204, 301, 400, 401, 403, 404, 405, 429, 500, 503] {
        let world = World::new();
        world.status(API, status);

        world
            .handle(world.endpoint(protected()))
            .token()
            .await
            .unwrap();

        assert_eq!(world.urls(), [API, WELL_KNOWN, OAUTH, TOKEN], "{status}");
    }
    // A challenge on another status is none.
    let world = World::new();
    let challenge = format!("Bearer resource_metadata=\"{ANNOUNCED}\"");
    world.page(API, Page::Response(403, challenge, String::new()));
    world
        .handle(world.endpoint(protected()))
        .token()
        .await
        .unwrap();
    assert_eq!(world.urls(), [API, WELL_KNOWN, OAUTH, TOKEN]);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_silent_or_endless_delays_only_a_little() {
    let world = World::new();
    world.page(API, Page::Silent);
    let began = SystemClock::default().now();

    world
        .handle(world.endpoint(protected()))
        .token()
        .await
        .unwrap();

    assert_eq!((SystemClock::default().now() - began).as_secs(), 5);
    assert_eq!(world.urls(), [API, WELL_KNOWN, OAUTH, TOKEN]);

    let world = World::announcing("");
    let challenge = format!("Bearer resource_metadata=\"{ANNOUNCED}\"");
    world.page(API, Page::Endless(401, challenge));
    let began = SystemClock::default().now();
    world
        .handle(world.endpoint(protected()))
        .token()
        .await
        .unwrap();
    assert_eq!((SystemClock::default().now() - began).as_secs(), 0);
    assert_eq!(world.urls(), [API, ANNOUNCED, OAUTH, TOKEN]);
}

#[tokio::test(start_paused = true)]
async fn the_metadata_of_the_origin_may_name_the_resource() {
    let world = World::new();
    world.status(WELL_KNOWN, 404);
    world.json(ROOT, &resource());

    world
        .handle(world.endpoint(protected()))
        .token()
        .await
        .unwrap();

    assert_eq!(world.urls(), [API, WELL_KNOWN, ROOT, OAUTH, TOKEN]);
}

#[tokio::test(start_paused = true)]
async fn each_form_of_the_issuers_metadata_is_requested() {
    let append = "https://id.example/a/.well-known/openid-configuration";
    let insert = "https://id.example/.well-known/openid-configuration/a";
    for (at, urls) in [
        (append, &[OAUTH, append][..]),
        (insert, &[OAUTH, append, insert]),
    ] {
        let world = World::new();
        world.status(OAUTH, 404);
        world.json(at, &issuer());

        world
            .handle(world.endpoint(protected()))
            .token()
            .await
            .unwrap();

        assert_eq!(world.urls()[2..urls.len() + 2], *urls);
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_requests_share_one_discovery() {
    let world = World::announcing("");
    let handle = world.handle(world.endpoint(protected()));

    let (first, second) = tokio::join!(handle.token(), handle.token());
    first.unwrap();
    second.unwrap();
    handle.refresh_now().await.unwrap();

    assert_eq!(world.urls(), [API, ANNOUNCED, OAUTH, TOKEN, TOKEN]);
}

#[tokio::test(start_paused = true)]
async fn scopes_are_configured_or_challenged_or_supported() {
    let challenge = ", scope=\"tools files\"";
    let supported = || protected().supported_scopes(true);
    for (challenge, resource, configured, expected) in [
        ("", protected(), None, None),
        ("", supported(), None, Some("mcp%3Aread%20mcp%3Awrite")),
        (challenge, protected(), None, Some("tools%20files")),
        (challenge, supported(), None, Some("tools%20files")),
        (challenge, supported(), Some("own"), Some("own")),
        ("", supported(), Some("own"), Some("own")),
    ] {
        let world = World::announcing(challenge);
        let mut endpoint = world.endpoint(resource);
        if let Some(scope) = configured {
            endpoint = endpoint.scope(scope);
        }

        world.handle(endpoint).token().await.unwrap();

        let form = world.form();
        let scope = form.split('&').find_map(|pair| pair.strip_prefix("scope="));
        assert_eq!(scope, expected, "{form}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_scope_of_a_request_is_added_or_replaces() {
    for (scope, expected) in [
        (TokenScope::new().add_scope("more"), "tools%20more"),
        (TokenScope::new().add_scope("tools"), "tools"),
        (TokenScope::new().scope("other"), "other"),
    ] {
        let world = World::announcing(", scope=\"tools\"");
        let handle = world.handle(world.endpoint(protected()));

        handle.scoped(&scope).token().await.unwrap();

        let form = world.form();
        assert!(form.contains(&format!("scope={expected}&")), "{form}");
    }
    let world = World::announcing("");
    let scope = TokenScope::new().resource("https://api.example/other");
    let handle = world.handle(world.endpoint(protected()));
    handle.scoped(&scope).token().await.unwrap();
    assert!(
        world
            .form()
            .ends_with("&resource=https%3A%2F%2Fapi.example%2Fother")
    );
}

#[tokio::test(start_paused = true)]
async fn the_resource_is_sent_as_the_metadata_spells_it_unless_it_is_configured() {
    let world = World::new();
    world.json(
        WELL_KNOWN,
        &with(resource(), "resource", json!("https://API.example:443/mcp")),
    );
    world
        .handle(world.endpoint(protected()))
        .token()
        .await
        .unwrap();
    assert!(
        world
            .form()
            .ends_with("resource=https%3A%2F%2FAPI.example%3A443%2Fmcp")
    );

    let world = World::new();
    let endpoint = world.endpoint(protected()).resource("urn:orders");
    world.handle(endpoint).token().await.unwrap();
    assert_eq!(
        world.form(),
        "grant_type=client_credentials&resource=urn%3Aorders"
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_allowed_server_is_used() {
    let world = World::new();
    let servers = json!(["https://one.example", "https://two.example", ISSUER]);
    world.json(
        WELL_KNOWN,
        &with(resource(), "authorization_servers", servers),
    );
    let allowed = protected()
        .allow_issuer("https://three.example")
        .allow_issuer(ISSUER);

    world.handle(world.endpoint(allowed)).token().await.unwrap();

    assert_eq!(world.urls(), [API, WELL_KNOWN, OAUTH, TOKEN]);
}

#[tokio::test(start_paused = true)]
async fn loopback_may_name_loopback_over_http() {
    let world = World::new();
    let api = "http://localhost:4000/mcp";
    let document = json!({ "resource": api, "authorization_servers": ["http://localhost:4001"] });
    let document = document.to_string();
    let metadata = json!({ "issuer": "http://localhost:4001", "token_endpoint": TOKEN });
    world.page(
        "http://localhost:4000/.well-known/oauth-protected-resource/mcp",
        Page::Response(200, String::new(), document),
    );
    world.json(
        "http://localhost:4001/.well-known/oauth-authorization-server",
        &metadata,
    );
    let resource: http::Uri = api.parse().unwrap();

    world
        .handle(world.endpoint(resource))
        .token()
        .await
        .unwrap();

    assert!(
        world
            .form()
            .ends_with("resource=http%3A%2F%2Flocalhost%3A4000%2Fmcp")
    );
}

#[tokio::test(start_paused = true)]
async fn the_layer_sends_the_token_to_the_origin_of_the_resource() {
    let auth = || ClientAuth::basic("id", "secret");
    for resource in [
        API,
        "https://api.example",
        "https://api.example:443/?tenant=a",
    ] {
        let resource = ProtectedResource::new(resource.parse().unwrap());
        let builder = ClientCredentialsLayer::for_resource(resource, auth()).unwrap();
        assert_eq!(
            format!("{builder:?}"),
            format!(
                "{:?}",
                ClientCredentialsLayer::builder(
                    TokenEndpoint::discover(ISSUER, auth()),
                    "https://api.example".parse().unwrap()
                )
            )
        );
    }
    for wrong in [
        "/mcp",
        "api.example",
        "ftp://api.example",
        "https://user@api.example",
    ] {
        let wrong: http::Uri = wrong.parse().unwrap();
        assert!(ClientCredentialsLayer::for_resource(wrong, auth()).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn the_doubles_name_each_other() {
    let issuer = Issuer::builder().client("id", "secret").in_process();
    for path in ["/mcp", "/", ""] {
        let api = Api::builder()
            .tokens(issuer.tokens())
            .protected_resource(path, issuer.origin())
            .in_process();
        let (at_issuer, at_api) = (issuer.service(), in_full(api.service()));
        let service = service_fn(move |request: http::Request<Full<Bytes>>| {
            let (issuer, api) = (at_issuer.clone(), at_api.clone());
            async move {
                match request.uri().host() {
                    Some("api.test") => api.oneshot(request).await,
                    _ => issuer.oneshot(request).await,
                }
            }
        });
        let resource: http::Uri = format!("{}{path}", api.origin()).parse().unwrap();
        let endpoint = TokenEndpoint::for_resource(resource, ClientAuth::basic("id", "secret"));
        let layer = ClientCredentialsLayer::builder(
            endpoint.service(service),
            api.origin().parse().unwrap(),
        );
        let client = layer.build().layer(api.service());

        let request = http::Request::get(api.url()).body(Full::<Bytes>::default());
        let response = client.oneshot(request.unwrap()).await.unwrap();

        assert_eq!(response.status(), 200, "{path}");
        // The probe, the metadata and the request.
        let paths: Vec<_> = api.requests().into_iter().map(|seen| seen.path).collect();
        assert_eq!(paths.len(), 3, "{paths:?}");
        assert!(paths[1].starts_with("/.well-known/oauth-protected-resource"));
    }
}
