//! A 401 of the API in use: one renewal of its metadata, one token, one replay, however often it challenges.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Response, StatusCode, header};
use serde_json::json;
use tower::{Layer, service_fn};
use tower_m2m::{BoxError, ClientCredentialsLayer};

use crate::{
    support::{Body, Inner, send},
    world::{ANNOUNCED, API, OAUTH, TOKEN, WELL_KNOWN, World, protected},
};

/// An API that rejects tokens while `rejects`, and names `url` in its challenge.
fn api(url: &'static str, rejects: &Arc<AtomicBool>) -> (Inner, Arc<AtomicUsize>) {
    let sent = Arc::<AtomicUsize>::default();
    let (count, rejects) = (Arc::clone(&sent), Arc::clone(rejects));
    let service = service_fn(move |request: http::Request<Body>| {
        count.fetch_add(1, SeqCst);
        assert!(request.headers().contains_key(header::AUTHORIZATION));
        let mut response = Response::new(Body::default());
        if rejects.load(SeqCst) {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let challenge = format!("Bearer error=invalid_token, resource_metadata=\"{url}\"");
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        }
        async move { Ok::<_, BoxError>(response) }
    });
    (Inner::new(service), sent)
}

fn get() -> http::Request<Body> {
    http::Request::get(API).body(Body::default()).unwrap()
}

fn layer(world: &World) -> ClientCredentialsLayer {
    world.layer(world.endpoint(protected())).build()
}

#[tokio::test(start_paused = true)]
async fn a_401_renews_the_metadata_from_where_it_says() {
    let world = World::new();
    world.json(ANNOUNCED, &crate::world::resource());
    let rejects = Arc::new(AtomicBool::new(false));
    let (inner, sent) = api(ANNOUNCED, &rejects);
    let service = layer(&world).layer(inner);
    send(&service, get()).await.unwrap();
    assert_eq!(world.urls(), [API, WELL_KNOWN, OAUTH, TOKEN]);
    world.forget();
    world.grant("another");
    rejects.store(true, SeqCst);

    let response = send(&service, get()).await.unwrap();

    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(world.urls(), [ANNOUNCED, TOKEN]);
    assert_eq!(sent.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn the_metadata_of_a_neighbour_does_not_replace_that_of_the_resource() {
    const NEIGHBOUR: &str = "https://api.example/.well-known/oauth-protected-resource/other";
    for announced in [false, true] {
        let (world, at) = match announced {
            false => (World::new(), WELL_KNOWN),
            true => (World::announcing(""), ANNOUNCED),
        };
        let other = json!({
            "resource": "https://api.example/other",
            "authorization_servers": ["https://other.example"],
        });
        world.json(NEIGHBOUR, &other);
        let rejects = Arc::new(AtomicBool::new(false));
        let (inner, _) = api(NEIGHBOUR, &rejects);
        let service = layer(&world).layer(inner);
        send(&service, get()).await.unwrap();
        rejects.store(true, SeqCst);
        world.grant("another");
        world.forget();
        send(&service, get()).await.unwrap();
        assert_eq!(world.urls(), [NEIGHBOUR, TOKEN]);
        assert_eq!(world.rejected().len(), 1);
        rejects.store(false, SeqCst);
        world.forget();

        tokio::time::advance(Duration::from_secs(3600)).await;
        send(&service, get()).await.unwrap();

        assert_eq!(world.urls(), [at, OAUTH, TOKEN]);
        assert_eq!(world.rejected().len(), 1, "{:?}", world.rejected());
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_of_challenges_is_bounded_by_the_cooldown() {
    let world = World::new();
    let rejects = Arc::new(AtomicBool::new(true));
    // At another origin, which is an event and not a request.
    let (inner, sent) = api("https://evil.example/metadata", &rejects);
    let service = layer(&world).layer(inner);
    send(&service, get()).await.unwrap();
    world.forget();

    for _ in 0..50 {
        world.grant("another");
        let response = send(&service, get()).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }

    assert!(world.urls().len() <= 1, "{:?}", world.urls());
    assert!(!world.urls().iter().any(|url| url.contains("evil")));
    assert!(sent.load(SeqCst) <= 53);
    assert!(
        world
            .rejected()
            .iter()
            .all(|text| text.contains("another origin"))
    );
}
