//! Redirects, followed above and below the layer.

use std::sync::{Arc, Mutex};

use http::{HeaderName, HeaderValue, StatusCode, header};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_m2m::client_credentials::OriginNotAllowed;

use super::support::{API, Inner, Source, get, layer, serving, status_only};

/// Redirects `/` to `place`, and writes down where requests go and what carried a token.
fn redirecting(place: &str) -> (Inner, Arc<Mutex<Vec<(String, Vec<HeaderName>)>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let place = HeaderValue::from_str(place).unwrap();
    let (inner, _) = serving(move |request| {
        let has_token = |value: &HeaderValue| value.to_str().unwrap().contains("token-");
        let headers = request.headers().iter();
        let carriers = headers.filter(|(_, value)| has_token(value));
        let carriers = carriers.map(|(name, _)| name.clone()).collect();
        let mut log = log.lock().unwrap();
        log.push((request.uri().to_string(), carriers));
        let mut response = status_only(StatusCode::OK);
        if log.len() == 1 {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            let headers = response.headers_mut();
            headers.insert(header::LOCATION, place.clone());
        }
        std::future::ready(response)
    });
    (inner, seen)
}

#[tokio::test(start_paused = true)]
async fn a_redirect_followed_above_does_not_leak_the_token() {
    for place in [
        "https://evil.example/",
        "https://api.example.com:444/",
        "http://api.example.com/",
        "https://sub.api.example.com/",
        "//evil.example/",
        "https://user@api.example.com/",
    ] {
        let (inner, seen) = redirecting(place);
        let service = ServiceBuilder::new()
            .layer(FollowRedirectLayer::new())
            .layer(layer(&Source::default()).build())
            .service(inner);

        let error = service.oneshot(get("/")).await.unwrap_err();

        assert!(error.is::<OriginNotAllowed>(), "{place}: {error}");
        let places: Vec<_> = seen
            .lock()
            .unwrap()
            .iter()
            .map(|(uri, _)| uri.clone())
            .collect();
        assert_eq!(places, [format!("{API}/")], "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_within_the_origin_carries_the_token() {
    for place in ["/there", "https://api.example.com/there"] {
        let (inner, seen) = redirecting(place);
        let service = ServiceBuilder::new()
            .layer(FollowRedirectLayer::new())
            .layer(layer(&Source::default()).build())
            .service(inner);

        let response = service.oneshot(get("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK);
        let seen = seen.lock().unwrap();
        assert_eq!(
            seen[1],
            (format!("{API}/there"), vec![header::AUTHORIZATION])
        );
    }
}

/// Redirects below the layer bypass it. This pins tower-http's behavior, for the guide.
#[tokio::test(start_paused = true)]
async fn tower_http_below_strips_authorization_on_cross_host_redirects_and_keeps_other_headers() {
    let key = HeaderName::from_static("x-api-key");
    for (place, header, kept) in [
        ("https://evil.example/", header::AUTHORIZATION, false),
        ("https://api.example.com:444/", header::AUTHORIZATION, false),
        ("http://api.example.com/", header::AUTHORIZATION, false),
        ("https://evil.example/", key, true),
    ] {
        let (inner, seen) = redirecting(place);
        let mut builder = layer(&Source::default());
        if header != header::AUTHORIZATION {
            builder = builder.header(header.clone());
        }
        let follows = FollowRedirectLayer::new().layer(inner);
        let service = builder.build().layer(follows);

        let response = service.oneshot(get("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK);
        let seen = seen.lock().unwrap();
        assert!(seen[0].1.contains(&header));
        assert_eq!(seen[1].1.contains(&header), kept, "{place}");
    }
}
