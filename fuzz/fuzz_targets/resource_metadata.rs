//! The metadata of an API (RFC 9728), after a first line that is its challenge, and where the secret goes because of it.
#![no_main]

use http::{Method, Request, StatusCode, header};
use libfuzzer_sys::fuzz_target;
use tower::service_fn;
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::ProtectedResource,
};
use tower_m2m_fuzz::{Kept, SECRET, answer, block_on, cut, header as field, token};

fuzz_target!(|data: &[u8]| {
    let (challenge, metadata) = cut(data);
    let (challenge, metadata) = (challenge.to_vec(), metadata.to_vec());
    let asked = Kept::new();
    let log = asked.clone();
    let service = service_fn(move |request: Request<_>| {
        let uri = request.uri().clone();
        let authenticated = request.headers().contains_key(header::AUTHORIZATION);
        let json = field(header::CONTENT_TYPE, b"application/json");
        let response = match (request.method(), uri.host(), uri.path()) {
            (&Method::POST, ..) => token(),
            (_, Some("api.test"), "/mcp") => {
                let challenge = field(header::WWW_AUTHENTICATE, &challenge);
                answer(StatusCode::UNAUTHORIZED, challenge, b"")
            }
            (_, Some("api.test"), _) => answer(StatusCode::OK, json, &metadata),
            // The metadata of the one honest issuer. Any other has none.
            (_, Some("issuer.test"), _) => {
                let document =
                    br#"{"issuer":"https://issuer.test","token_endpoint":"https://issuer.test/token"}"#;
                answer(StatusCode::OK, json, document)
            }
            _ => answer(StatusCode::NOT_FOUND, json, b""),
        };
        log.push((uri, authenticated, request.method().clone()));
        async move { Ok::<_, BoxError>(response) }
    });
    let resource = ProtectedResource::new("https://api.test/mcp".parse().unwrap());
    let endpoint = TokenEndpoint::for_resource(resource, ClientAuth::basic("id", SECRET));
    let layer = ClientCredentialsLayer::builder(
        endpoint.service(service).retries(0),
        "https://api.test".parse().unwrap(),
    );

    let token = block_on(layer.build().handle().token());

    let asked = asked.take();
    // The probe, three places of the API's metadata, three of the issuer's, and the token.
    assert!(asked.len() <= 8, "{asked:?}");
    for (uri, authenticated, method) in &asked {
        assert_eq!(uri.scheme_str(), Some("https"), "{uri}");
        assert!(!uri.authority().unwrap().as_str().contains('@'), "{uri}");
        assert_eq!(*authenticated, *method == Method::POST, "{uri}");
        if *authenticated {
            assert_eq!(*uri, "https://issuer.test/token");
        }
    }
    match token {
        // Only if the API names itself and the issuer, perhaps in UTF-16 or with escapes.
        Ok(_) => {
            let text = String::from_utf8_lossy(data);
            let utf_16 = data.contains(&0xFF) || data.contains(&0xFE) || data.contains(&0);
            let named = text.contains("issuer.test") && text.contains("/mcp");
            assert!(named || text.contains('\\') || utf_16, "{text}");
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            // What a server makes up is no secret. Errors quote it without its control characters.
            let text = String::from_utf8_lossy(data);
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            assert!(text.contains(SECRET) || !shown.contains(SECRET), "{shown}");
        }
    }
});
