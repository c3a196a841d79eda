//! URLs in other spellings, and an API whose challenges never end.

use std::sync::{Arc, Mutex, atomic::Ordering::SeqCst};

use http::{Request, StatusCode};
use tower::Layer;
use tower_m2m::{
    ClientCredentialsLayer, Origin,
    client_credentials::{AccessToken, DpopKey},
    test_util::DpopProof,
};

use crate::support::{Body, send, serving, status_only};

fn layer(origin: &str) -> ClientCredentialsLayer {
    let token = AccessToken::new("own").bound_to(DpopKey::generate().unwrap());
    let origin: Origin = origin.parse().unwrap();
    ClientCredentialsLayer::builder(token, origin).build()
}

#[tokio::test(start_paused = true)]
async fn the_url_of_a_proof_has_the_usual_origin_and_the_path_as_it_is_sent() {
    for (origin, url, expected) in [
        (
            "https://api.example",
            "https://API.Example:443/a/?b=c",
            "https://api.example/a/",
        ),
        (
            "https://api.example:8443",
            "https://api.example:8443/A%2fb%2F..//c",
            "https://api.example:8443/A%2fb%2F..//c",
        ),
        (
            "https://[2001:db8::1]",
            "https://[2001:DB8:0:0::1]:443?a",
            "https://[2001:db8::1]/",
        ),
        ("http://[::1]:80", "http://[0:0::1]", "http://[::1]/"),
    ] {
        let urls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&urls);
        let (api, _) = serving(move |request: Request<Body>| {
            let proof = DpopProof::verify(request.headers()["dpop"].to_str().unwrap()).unwrap();
            seen.lock()
                .unwrap()
                .push(proof.claim("htu").unwrap().to_owned());
            std::future::ready(status_only(StatusCode::OK))
        });
        let request = Request::get(url).body(Body::default()).unwrap();

        send(&layer(origin).layer(api), request).await.unwrap();

        assert_eq!(*urls.lock().unwrap(), [expected], "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn challenges_of_every_kind_with_new_nonces_end_after_three_requests() {
    let challenges = [
        &[r#"DPoP error="use_dpop_nonce", resource_metadata="https://api.example/metadata""#][..],
        &[
            r#"Bearer error="invalid_token", resource_metadata="https://api.example/metadata""#,
            r#"DPoP error="use_dpop_nonce""#,
        ],
        &[r#"DPoP error="use_dpop_nonce", DPoP error="invalid_token""#],
    ];
    for lines in challenges {
        let nonces = Arc::new(Mutex::new(0));
        let (api, calls) = serving(move |_: Request<Body>| {
            let mut response = status_only(StatusCode::UNAUTHORIZED);
            let mut nonce = nonces.lock().unwrap();
            *nonce += 1;
            let headers = response.headers_mut();
            headers.insert("dpop-nonce", format!("n-{nonce}").parse().unwrap());
            for line in lines {
                headers.append("www-authenticate", line.parse().unwrap());
            }
            std::future::ready(response)
        });
        let service = layer("https://api.example").layer(api);
        let request = Request::get("https://api.example/").body(Body::default());

        let response = send(&service, request.unwrap()).await.unwrap();

        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(calls.load(SeqCst), 3, "{lines:?}");
    }
}
