//! How clients show who they are.

use http::header;
use tower_m2m::{ClientAuth, client_credentials::SecretFile};

use crate::{
    fetch::auth,
    support::{
        server::{Server, handle},
        temp_file::TempFile,
    },
};

#[tokio::test(start_paused = true)]
async fn q22_a_server_that_does_not_decode_basic_auth() {
    let server = Server::granting();
    let raw = ClientAuth::basic_raw("id", "p@ss w");

    handle(server.endpoint(raw)).token().await.unwrap();

    // `id:p@ss w`
    assert_eq!(
        server.last_request().headers[header::AUTHORIZATION],
        "Basic aWQ6cEBzcyB3"
    );
}

#[tokio::test(start_paused = true)]
async fn q23_the_secret_is_sent_in_one_place_without_probing() {
    let server = Server::serving(|_| (401, r#"{"error":"invalid_client"}"#.to_owned()));

    let post = handle(server.endpoint(ClientAuth::post("id", "secret")));
    post.token().await.unwrap_err();
    let asked = server.last_request();
    handle(server.endpoint(auth())).token().await.unwrap_err();

    assert_eq!(asked.form_value("client_secret"), Some("secret"));
    assert!(!asked.headers.contains_key(header::AUTHORIZATION));
    assert_eq!(server.last_request().form_value("client_secret"), None);
    assert_eq!(server.requests().len(), 2);
}

#[cfg(feature = "jwt-rust-crypto")]
#[tokio::test(start_paused = true)]
async fn q24_the_audience_and_type_of_assertions_are_settings() {
    use tower_m2m::client_credentials::AssertionAudience;

    let auth = || ClientAuth::client_secret_jwt("id", "0123456789abcdef0123456789abcdef");
    let server = Server::granting();
    let by_default = server.endpoint(auth()).issuer("https://id.example");
    let older = server
        .endpoint(auth())
        .assertion_audience(AssertionAudience::TokenEndpoint)
        .assertion_typ(false);

    handle(by_default).token().await.unwrap();
    let new = assertion(&server);
    handle(older).token().await.unwrap();
    let old = assertion(&server);

    assert!(
        new.0.contains("client-authentication+jwt") && new.1.contains(r#""https://id.example""#)
    );
    assert!(!old.0.contains("client-authentication+jwt"));
    assert!(old.1.contains(r#""https://id.example/token""#));
}

#[tokio::test(start_paused = true)]
async fn q25_a_custom_assertion_type() {
    let file = TempFile::with_content("spiffe", "e30.e30.c2ln");
    let server = Server::granting();
    let auth = ClientAuth::assertion_of_type(
        "id",
        SecretFile::new(file.path()),
        "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
    );

    handle(server.endpoint(auth)).token().await.unwrap();

    assert_eq!(
        server.last_request().form_value("client_assertion_type"),
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-spiffe")
    );
}

/// Header and claims of the last assertion.
#[cfg(feature = "jwt-rust-crypto")]
fn assertion(server: &Server) -> (String, String) {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    let asked = server.last_request();
    let mut parts = asked.form_value("client_assertion").unwrap().split('.');
    let mut part = || {
        let bytes = URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    (part(), part())
}
