//! What a `Host` header says besides the URI.

use std::sync::atomic::Ordering::SeqCst;

use http::{HeaderValue, Request, StatusCode, Version, header};
use tower::Layer;
use tower_m2m::client_credentials::{HostMismatch, OriginNotAllowed};

use super::support::{Body, Source, api, get, layer, origin, send, serving, status_only};

fn naming(hosts: &[&str], version: Version) -> Request<Body> {
    let mut request = get("/");
    *request.version_mut() = version;
    for host in hosts {
        let host = HeaderValue::from_str(host).unwrap();
        request.headers_mut().append(header::HOST, host);
    }
    request
}

#[tokio::test(start_paused = true)]
async fn a_host_header_that_differs_from_the_uri_is_rejected_in_every_http_version() {
    let source = Source::default();
    let (inner, calls) = api(&source);
    let service = layer(&source).build().layer(inner);

    // In HTTP/2 the URI becomes `:authority`, and a server may use either.
    for version in [Version::HTTP_11, Version::HTTP_2, Version::HTTP_3] {
        for hosts in [
            &["evil.example"][..],
            &["api.example.com", "evil.example"],
            &["evil.example", "api.example.com"],
            &["api.example.com:80"],
            &["api.example.com."],
            &["user@api.example.com"],
            &["api.example.com, evil.example"],
            &["https://api.example.com"],
            &[""],
        ] {
            let error = send(&service, naming(hosts, version)).await.unwrap_err();
            assert!(error.is::<OriginNotAllowed>(), "{hosts:?}: {error}");
            assert!(error.to_string().contains("`Host` header"), "{error}");
        }
    }

    assert_eq!((calls.load(SeqCst), source.fetches()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_matching_host_header_is_kept() {
    let source = Source::default();
    let service = layer(&source).build().layer(api(&source).0);

    for host in ["api.example.com", "API.example.com", "api.example.com:443"] {
        let response = send(&service, naming(&[host], Version::HTTP_11)).await;
        assert_eq!(response.unwrap().status(), StatusCode::OK, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_differing_host_header_is_overwritten_if_configured() {
    let source = Source::default();
    let (inner, calls) = serving(|request| {
        let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().collect();
        assert_eq!(hosts, ["api.example.com"]);
        std::future::ready(status_only(StatusCode::OK))
    });
    let service = layer(&source)
        .on_host_mismatch(HostMismatch::Overwrite)
        .build()
        .layer(inner);

    for hosts in [&["evil.example"][..], &["api.example.com", "evil.example"]] {
        send(&service, naming(hosts, Version::HTTP_11))
            .await
            .unwrap();
    }

    assert_eq!(calls.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_host_header_is_checked_against_the_assumed_origin() {
    let source = Source::default();
    let (inner, calls) = api(&source);
    let service = layer(&source).assume_origin(origin()).build().layer(inner);
    let mut request = naming(&["evil.example"], Version::HTTP_11);
    *request.uri_mut() = "/path".parse().unwrap();

    let error = send(&service, request).await.unwrap_err();

    assert!(error.is::<OriginNotAllowed>());
    assert_eq!(calls.load(SeqCst), 0);
}
