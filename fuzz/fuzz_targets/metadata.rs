//! An issuer's metadata (RFC 8414), and where the secret goes because of it.
#![no_main]

use http::{Request, StatusCode, header};
use libfuzzer_sys::fuzz_target;
use tower::service_fn;
use tower_m2m::{BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint};
use tower_m2m_fuzz::{Kept, SECRET, answer, block_on, header as field, token};

fuzz_target!(|data: &[u8]| {
    let metadata = data.to_vec();
    let asked = Kept::new();
    let log = asked.clone();
    let service = service_fn(move |request: Request<_>| {
        let authenticated = request.headers().contains_key(header::AUTHORIZATION);
        let uri = request.uri().clone();
        let response = if uri.path().contains("/.well-known/") {
            let json = field(header::CONTENT_TYPE, b"application/json");
            answer(StatusCode::OK, json, &metadata)
        } else {
            token()
        };
        log.push((uri, authenticated, request.method().clone()));
        async move { Ok::<_, BoxError>(response) }
    });
    let endpoint = TokenEndpoint::discover("https://issuer.test", ClientAuth::basic("id", SECRET));
    let layer = ClientCredentialsLayer::builder(
        endpoint.service(service),
        "https://api.test".parse().unwrap(),
    );

    let token = block_on(layer.build().handle().token());

    let asked = asked.take();
    for (uri, authenticated, method) in &asked {
        let safe = uri.scheme_str() == Some("https");
        let loopback = ["localhost", "127.", "[::1]"];
        let loopback = uri.host().is_some_and(|host| {
            let host = host.to_ascii_lowercase();
            loopback.iter().any(|name| host.starts_with(name))
        });
        assert!(safe || loopback, "{uri}");
        assert!(!authenticated || *method == http::Method::POST);
        if method == http::Method::GET {
            assert_eq!(uri.host(), Some("issuer.test"));
        }
        assert!(!uri.authority().unwrap().as_str().contains('@'), "{uri}");
    }
    let text = String::from_utf8_lossy(data);
    match token {
        // A document is accepted only from the issuer that it names, which may be written in UTF-16 or with escapes.
        Ok(_) => {
            let utf_16 = data.starts_with(b"\xFF\xFE") || data.starts_with(b"\xFE\xFF");
            let named = text.contains("issuer.test") || text.contains("\\u");
            assert!(named || utf_16, "{text}");
        }
        // The server has not been sent the secret yet.
        Err(error) => {
            let shown = format!("{error} {error:?}");
            // What a server makes up is no secret. Errors quote it without its control characters.
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            assert!(text.contains(SECRET) || !shown.contains(SECRET), "{shown}");
        }
    }
});
