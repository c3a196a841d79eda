//! What a request's URI says.

use std::sync::atomic::Ordering::SeqCst;

use http::{StatusCode, Uri, header};
use tower::Layer;
use tower_m2m::{
    ClientCredentialsLayer,
    client_credentials::{ForeignOrigin, OriginNotAllowed},
};

use super::{
    support::{Source, api, layer, origin, send, serving, status_only},
    to,
};

/// Everything else than `https://api.example.com`.
const FOREIGN: [&str; 21] = [
    "https://evil.example/",
    "https://api.example.com:444/",
    "https://api.example.com:80/",
    "http://api.example.com/",
    "http://api.example.com:443/",
    "https://sub.api.example.com/",
    "https://example.com/",
    "https://api.example.com.evil.example/",
    "https://api-example.com/",
    "https://api.example.com./",
    "https://API.EXAMPLE.COM./",
    "https://user@api.example.com/",
    "https://user:password@api.example.com/",
    "https://api.example.com@evil.example/",
    "https://api.example.com:443@evil.example/",
    "https://%61pi.example.com/",
    "https://93.184.216.34/",
    "https://[::1]/",
    "ftp://api.example.com/",
    "api.example.com:443",
    "https://api.example.com:65979/",
];

#[tokio::test(start_paused = true)]
async fn a_request_for_another_origin_is_rejected_before_a_token_is_fetched() {
    let source = Source::default();
    let (inner, calls) = api(&source);
    let service = layer(&source).build().layer(inner);

    for uri in FOREIGN.into_iter().filter(|uri| uri.parse::<Uri>().is_ok()) {
        let error = send(&service, to(uri)).await.unwrap_err();

        assert!(error.is::<OriginNotAllowed>(), "{uri}: {error}");
        let text = error.to_string();
        assert!(text.contains("`.allow_origin(..)`"), "{uri}: {text}");
        assert!(!text.contains("password"), "{text}");
    }

    assert_eq!((calls.load(SeqCst), source.fetches()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_passed_through_request_carries_no_token() {
    let source = Source::default();
    let (inner, calls) = serving(|request| {
        assert!(!request.headers().contains_key(header::AUTHORIZATION));
        std::future::ready(status_only(StatusCode::UNAUTHORIZED))
    });
    let service = layer(&source)
        .on_foreign_origin(ForeignOrigin::PassWithoutToken)
        .build()
        .layer(inner);
    let known: Vec<_> = FOREIGN
        .into_iter()
        .filter(|uri| uri.parse::<Uri>().is_ok())
        .collect();

    for uri in &known {
        let response = send(&service, to(uri)).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{uri}");
    }

    assert_eq!((calls.load(SeqCst), source.fetches()), (known.len(), 0));
}

#[tokio::test(start_paused = true)]
async fn origins_compare_in_canonical_form() {
    let source = Source::default();
    let service = layer(&source)
        .allow_origin("https://[2001:db8::1]:8443".parse().unwrap())
        .build()
        .layer(api(&source).0);

    for uri in [
        "https://api.example.com/",
        "https://API.example.COM/",
        "HTTPS://api.example.com/",
        "https://api.example.com:443/path?query",
        "https://[2001:db8::1]:8443/",
        "https://[2001:DB8:0:0::0:1]:8443/",
    ] {
        let response = send(&service, to(uri)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_ipv6_address_or_port_is_another_origin() {
    let source = Source::default();
    let own = "https://[2001:db8::1]:8443".parse().unwrap();
    let (inner, calls) = api(&source);
    let service = ClientCredentialsLayer::builder(source, own)
        .build()
        .layer(inner);

    for uri in [
        "https://[2001:db8::2]:8443/",
        "https://[2001:db8::1]/",
        "https://[2001:db8::1]:8444/",
        "https://[::ffff:32.1.13.184]:8443/",
        "https://2001:8443/",
    ] {
        let error = send(&service, to(uri)).await.unwrap_err();
        assert!(error.is::<OriginNotAllowed>(), "{uri}: {error}");
    }

    assert_eq!(calls.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn plain_http_is_rejected_except_for_loopback() {
    let source = Source::default();
    let service = |origin: &str| {
        ClientCredentialsLayer::builder(source.clone(), origin.parse().unwrap())
            .build()
            .layer(api(&source).0)
    };

    for (origin, loopback) in [
        ("http://127.0.0.1", true),
        ("http://[::1]:8080", true),
        ("http://localhost:8080", true),
        ("http://orders.localhost:8080", true),
        ("http://api.example.com", false),
        ("http://10.0.0.1", false),
        ("http://localhost.example.com", false),
        ("http://127.0.0.1.example.com", false),
        ("http://0.0.0.0", false),
    ] {
        match send(&service(origin), to(origin)).await {
            Ok(response) => assert!(loopback && response.status().is_success(), "{origin}"),
            Err(error) => {
                assert!(!loopback, "{origin}");
                let text = error.to_string();
                assert!(text.contains("dangerously_allow_http"), "{text}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_host_uses_the_assumed_origin_or_fails() {
    let source = Source::default();
    let (inner, calls) = api(&source);
    let strict = layer(&source).build().layer(inner.clone());
    let assuming = layer(&source).assume_origin(origin()).build().layer(inner);

    for uri in ["/path", "*"] {
        let error = send(&strict, to(uri)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`.assume_origin(..)`"), "{text}");
        assert_eq!(calls.load(SeqCst), 0);
    }
    let response = send(&assuming, to("/path")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn the_error_lists_the_allowed_origins() {
    let source = Source::default();
    let mut builder = layer(&source);
    for number in 1..=2 {
        builder = builder.allow_origin(format!("https://{number}.example").parse().unwrap());
    }
    let few = send(
        &builder.build().layer(api(&source).0),
        to("https://other.example/"),
    )
    .await;
    let mut builder = layer(&source);
    for number in 1..=7 {
        builder = builder.allow_origin(format!("https://{number}.example").parse().unwrap());
    }
    let many = send(
        &builder.build().layer(api(&source).0),
        to("https://other.example/"),
    )
    .await;

    let (few, many) = (few.unwrap_err(), many.unwrap_err());

    let named = format!(
        "only to {}, https://1.example, https://2.example;",
        origin()
    );
    assert!(few.to_string().contains(&named), "{few}");
    assert!(
        many.to_string().contains("https://4.example and 3 more;"),
        "{many}"
    );
    // So it is printed by a `main` that returns it.
    assert!(format!("{few:?}").contains(&few.to_string()), "{few:?}");
}
