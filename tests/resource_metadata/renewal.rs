//! Renewed metadata, after an hour or a 401: it confirms what is in use, or is rejected.

use std::time::Duration;

use serde_json::json;

use crate::world::{
    ANNOUNCED, API, ISSUER, OAUTH, TOKEN, WELL_KNOWN, World, issuer, protected, resource, with,
};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn metadata_is_renewed_after_an_hour_without_another_probe() {
    let world = World::announcing("");
    let handle = world.handle(world.endpoint(protected().supported_scopes(true)));
    handle.token().await.unwrap();
    world.json(
        ANNOUNCED,
        &with(resource(), "scopes_supported", json!(["new"])),
    );
    world.forget();

    tokio::time::advance(HOUR).await;
    handle.token().await.unwrap();

    assert_eq!(world.urls(), [ANNOUNCED, OAUTH, TOKEN]);
    assert!(world.form().contains("scope=new&"), "{}", world.form());
    assert!(world.rejected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn renewed_metadata_cannot_choose_another_server() {
    for document in [
        with(
            resource(),
            "authorization_servers",
            json!(["https://evil.example"]),
        ),
        with(resource(), "authorization_servers", json!([])),
        with(resource(), "resource", json!("https://evil.example")),
        json!({}),
    ] {
        let world = World::new();
        let handle = world.handle(world.endpoint(protected()));
        handle.token().await.unwrap();
        world.json(WELL_KNOWN, &document);
        world.forget();

        tokio::time::advance(HOUR).await;
        handle.token().await.unwrap();

        assert!(
            world
                .urls()
                .ends_with(&[OAUTH.to_owned(), TOKEN.to_owned()])
        );
        assert_eq!(world.rejected().len(), 1);
        assert!(world.rejected()[0].contains(API), "{:?}", world.rejected());

        // Not requested again with each token.
        world.forget();
        handle.refresh_now().await.unwrap();
        assert_eq!(world.urls(), [TOKEN]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_in_use_stays_if_another_one_comes_first() {
    let world = World::new();
    let handle = world.handle(world.endpoint(protected()));
    handle.token().await.unwrap();
    let servers = json!(["https://other.example", ISSUER]);
    world.json(
        WELL_KNOWN,
        &with(resource(), "authorization_servers", servers),
    );
    world.forget();

    tokio::time::advance(HOUR).await;
    handle.token().await.unwrap();

    assert_eq!(world.urls(), [WELL_KNOWN, OAUTH, TOKEN]);
    assert!(world.rejected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_worked_is_not_kept() {
    let world = World::new();
    let dead = "https://dead.example";
    world.json(
        WELL_KNOWN,
        &with(resource(), "authorization_servers", json!([dead])),
    );
    let handle = world.handle(world.endpoint(protected()));
    let error = handle.token().await.unwrap_err();
    assert!(error.to_string().contains(dead), "{error}");
    world.json(WELL_KNOWN, &resource());
    world.forget();

    handle.refresh_now().await.unwrap();

    assert_eq!(world.urls(), [API, WELL_KNOWN, OAUTH, TOKEN]);
    // From then on it is in use.
    world.forget();
    handle.refresh_now().await.unwrap();
    assert_eq!(world.urls(), [TOKEN]);
    assert!(world.rejected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_named_by_the_url_of_its_metadata_is_confirmed() {
    let world = World::new();
    let at = "https://id.example/a/.well-known/openid-configuration";
    world.json(at, &issuer());
    let named = with(resource(), "authorization_servers", json!([at]));
    world.json(WELL_KNOWN, &named);
    let handle = world.handle(world.endpoint(protected()));
    handle.token().await.unwrap();
    world.forget();

    tokio::time::advance(HOUR).await;
    handle.token().await.unwrap();

    assert_eq!(world.urls(), [WELL_KNOWN, at, TOKEN]);
    assert_eq!(world.rejected(), [""; 0]);
}
