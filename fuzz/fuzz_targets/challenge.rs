//! A 401: its fields as lines of `name: value`, and what the token source is told about them.
#![no_main]

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode, header};
use http_body_util::Empty;
use libfuzzer_sys::fuzz_target;
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, ClientCredentialsLayer,
    client_credentials::{AccessToken, FetchContext, TokenError, TokenSource},
};
use tower_m2m_fuzz::{Kept, SECRET, block_on, header as field};

fuzz_target!(|data: &[u8]| {
    let lines = data.split(|byte| *byte == b'\n').take(20);
    let fields: Vec<_> = lines
        .map(|line| field(header::WWW_AUTHENTICATE, line))
        .collect();
    let told = Kept::new();
    let api = service_fn(move |request: Request<Empty<Bytes>>| {
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        for field in &fields {
            for value in field.values() {
                let name: HeaderName = header::WWW_AUTHENTICATE;
                response.headers_mut().append(name, value.clone());
            }
        }
        assert!(request.headers().contains_key(header::AUTHORIZATION));
        async move { Ok::<_, BoxError>(response) }
    });
    let source = Source(told.clone());
    let layer = ClientCredentialsLayer::builder(source, "https://api.test".parse().unwrap());
    let request = Request::get("https://api.test/").body(Empty::new());
    let response = block_on(layer.build().layer(api).oneshot(request.unwrap())).unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    for told in told.take() {
        // The API was sent the token, and may have written it into its answer.
        assert!(!told.contains(SECRET), "{told}");
    }
});

/// Tokens with the secret in them, and the contexts of the rejected ones.
#[derive(Clone)]
struct Source(Kept<String>);

impl TokenSource for Source {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        if let Some(rejected) = cx.rejected() {
            for challenge in rejected.challenges() {
                let length = |text: Option<&str>| text.map_or(0, str::len);
                assert!(length(challenge.error_description()) <= 1_000);
                assert!(length(challenge.realm()) <= 1_000);
            }
            self.0.push(format!("{rejected:?}"));
            return Ok(AccessToken::new("another"));
        }
        Ok(AccessToken::new(SECRET))
    }
}
