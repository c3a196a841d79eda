//! How clients authenticate.

use http::{HeaderName, HeaderValue, header};
use serde_json::json;
use tower_m2m::{
    ClientAuth,
    client_credentials::{
        ClientAuthentication, SecretFile, TokenError, TokenErrorKind as Kind, TokenRequest,
    },
};

use crate::support::{
    server::{RecordedRequest, Server, TOKEN_URL, handle},
    temp_file::TempFile,
};

#[tokio::test(start_paused = true)]
async fn methods_without_a_signature_send_the_client_id_and_nothing_secret() {
    for (auth, id) in [
        (ClientAuth::tls("id"), Some("id")),
        (ClientAuth::self_signed_tls("id"), Some("id")),
        (ClientAuth::none("id"), Some("id")),
        (ClientAuth::anonymous(), None),
    ] {
        let server = Server::granting();

        handle(server.endpoint(auth)).token().await.unwrap();

        let asked = server.last_request();
        assert_eq!(asked.form_value("client_id"), id);
        assert_eq!(asked.form_value("client_secret"), None);
        assert!(!asked.headers.contains_key(header::AUTHORIZATION));
    }
}

#[tokio::test(start_paused = true)]
async fn a_preissued_assertion_is_sent_with_its_type() {
    let server = Server::granting();
    let plain = ClientAuth::assertion("id", "assertion");
    let spiffe = ClientAuth::assertion_of_type("id", "svid", ClientAuth::JWT_SPIFFE);

    handle(server.endpoint(plain)).token().await.unwrap();
    handle(server.endpoint(spiffe)).token().await.unwrap();

    let asked = server.requests();
    assert_eq!(asked[0].form_value("client_assertion"), Some("assertion"));
    assert_eq!(
        asked[0].form_value("client_assertion_type"),
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
    );
    assert_eq!(asked[0].form_value("client_id"), Some("id"));
    assert_eq!(
        asked[1].form_value("client_assertion_type"),
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-spiffe")
    );
}

#[tokio::test]
async fn a_token_file_is_reread_for_every_attempt_and_trimmed() {
    let file = TempFile::with_content("rotated", " first \n");
    let server = Server::granting();
    let handle = handle(server.endpoint(ClientAuth::assertion("id", SecretFile::new(file.path()))));

    handle.refresh_now().await.unwrap();
    file.write("second\r\n");
    handle.refresh_now().await.unwrap();
    file.write("third\n\n");
    handle.refresh_now().await.unwrap();

    let sent: Vec<_> = server.requests().iter().map(assertion).collect();
    assert_eq!(sent, [" first ", "second", "third"]);
}

#[tokio::test]
async fn an_empty_or_missing_token_file_is_named_and_nothing_is_sent() {
    let empty = TempFile::with_content("empty", "\n");
    let missing = std::env::temp_dir().join("tower-m2m-there-is-no-such-file");
    for path in [empty.path(), &missing] {
        let server = Server::granting();
        let auth = ClientAuth::assertion("id", SecretFile::new(path));

        let error = handle(server.endpoint(auth)).token().await.unwrap_err();

        assert_eq!(
            (error.kind(), error.is_transient()),
            (Kind::SecretUnavailable, true)
        );
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert!(server.requests().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_custom_method_may_set_headers_and_parameters() {
    struct Attested;

    impl ClientAuthentication for Attested {
        async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
            let endpoint = HeaderValue::from_str(&request.token_endpoint().to_string()).unwrap();
            request.header(HeaderName::from_static("x-attested-for"), endpoint);
            request.parameter("client_id", "attested");
            request.redact("attestation");
            Ok(())
        }
    }

    let server = Server::serving(|_| {
        let body = json!({"error": "invalid_client", "error_description": "no attestation"});
        (401, body.to_string())
    });

    let error = handle(server.endpoint(ClientAuth::custom(Attested)))
        .token()
        .await
        .unwrap_err();

    assert_eq!(error.error_description(), Some("no [secret]"));
    assert_eq!(server.last_request().headers["x-attested-for"], TOKEN_URL);
    assert_eq!(
        server.last_request().form_value("client_id"),
        Some("attested")
    );
}

#[tokio::test(start_paused = true)]
async fn a_parameter_set_twice_is_an_error() {
    struct Audience;

    impl ClientAuthentication for Audience {
        async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
            request.parameter("audience", "a");
            Ok(())
        }
    }

    let server = Server::granting();
    let endpoint = server.endpoint(ClientAuth::custom(Audience)).audience("b");

    let error = handle(endpoint).token().await.unwrap_err();

    assert_eq!(error.kind(), Kind::Configuration);
    assert!(error.to_string().contains("\"audience\""), "{error}");
    assert!(server.requests().is_empty());
}

fn assertion(asked: &RecordedRequest) -> String {
    asked.form_value("client_assertion").unwrap().to_owned()
}
