//! Which ways of authentication metadata may choose among.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{TokenErrorKind as Kind, TokenEvent},
};

use crate::{
    support::server::{GRANTED, Server, handle, layer},
    world::{METHODS, OAUTH, TOKEN, metadata, publishing, token, with},
};

#[tokio::test(start_paused = true)]
async fn a_secret_is_sent_with_a_method_the_server_supports() {
    for (methods, basic) in [
        (json!(["client_secret_post"]), false),
        (json!(["client_secret_post", "client_secret_basic"]), true),
        (Value::Null, true),
    ] {
        let server = publishing(OAUTH, with(metadata(), METHODS, methods));

        token(&server, ClientAuth::basic("id", "secret"))
            .await
            .unwrap();

        let asked = server.last_request();
        assert_eq!(asked.headers.contains_key("authorization"), basic);
        assert_eq!(asked.form_value("client_secret").is_some(), !basic);
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_never_weakens_the_credential() {
    let all_but_ours = json!(["none", "client_secret_basic", "client_secret_post"]);
    let cases = [
        (ClientAuth::tls("id"), all_but_ours.clone()),
        (ClientAuth::tls("id"), Value::Null),
        (
            ClientAuth::self_signed_tls("id"),
            json!(["tls_client_auth"]),
        ),
        (
            ClientAuth::basic("id", "secret"),
            json!(["none", "private_key_jwt"]),
        ),
        (ClientAuth::none("id"), Value::Null),
    ];
    for (auth, methods) in cases {
        let server = publishing(OAUTH, with(metadata(), METHODS, methods));

        let error = token(&server, auth).await.unwrap_err();

        assert_eq!(error.kind(), Kind::Configuration);
        assert!(
            error.to_string().contains("the server's metadata offers"),
            "{error}"
        );
        assert_eq!(server.urls(), [OAUTH]);
    }
}

#[cfg(feature = "jwt-aws-lc-rs")]
#[tokio::test(start_paused = true)]
async fn a_key_is_never_sent_and_its_audience_is_the_issuer() {
    use tower_m2m::client_credentials::{KeyAlgorithm, SigningKey};

    let key = || SigningKey::pem(KeyAlgorithm::Es256, include_bytes!("../keys/ec.pem")).unwrap();
    let weak = publishing(
        OAUTH,
        with(metadata(), METHODS, json!(["client_secret_post"])),
    );
    let good = publishing(OAUTH, with(metadata(), METHODS, json!(["private_key_jwt"])));

    let signs = ClientAuth::client_secret_jwt("id", "secret");
    let of_secret = token(&weak, signs).await.unwrap_err();
    let of_key = token(&weak, ClientAuth::private_key_jwt("id", key()))
        .await
        .unwrap_err();
    token(&good, ClientAuth::private_key_jwt("id", key()))
        .await
        .unwrap();

    assert_eq!(of_secret.kind(), Kind::Configuration);
    assert_eq!(of_key.kind(), Kind::Configuration);
    assert!(good.last_request().form_value("client_assertion").is_some());
}

#[cfg(feature = "jwt-aws-lc-rs")]
#[tokio::test(start_paused = true)]
async fn an_assertion_is_signed_only_with_a_supported_algorithm() {
    use std::time::Duration;

    use crate::world::{discover, publish, with_events};

    let signed = with(metadata(), METHODS, json!(["client_secret_jwt"]));
    let takes = |algorithms| with(signed.clone(), ALGORITHMS, algorithms);
    let auth = || ClientAuth::client_secret_jwt("id", "secret");
    let good = publishing(OAUTH, takes(json!(["RS256", "HS256"])));
    let bad = publishing(OAUTH, takes(json!(["RS256"])));

    token(&good, auth()).await.unwrap();
    let refused = token(&bad, auth()).await.unwrap_err();

    assert_eq!(refused.kind(), Kind::Configuration);
    let text = refused.to_string();
    assert!(
        text.contains(r#"only assertions signed with ["RS256"]"#),
        "{text}"
    );
    assert!(text.contains("signs with HS256"), "{text}");
    assert_eq!(bad.urls(), [OAUTH]);

    let (handle, events) = with_events(discover(&good, auth()));
    handle.token().await.unwrap();
    publish(&good, OAUTH, takes(json!(["RS256"])));
    tokio::time::advance(Duration::from_secs(3601)).await;
    handle.refresh_now().await.unwrap();
    assert_eq!(*events.lock().unwrap(), [Kind::Discovery]);
}

#[tokio::test(start_paused = true)]
async fn only_certificate_authentication_uses_the_mtls_alias() {
    let alias = json!({ "token_endpoint": "https://mtls.id.example/token" });
    let methods = json!(["client_secret_basic", "tls_client_auth"]);
    let document = with(
        with(metadata(), METHODS, methods),
        "mtls_endpoint_aliases",
        alias,
    );

    for (auth, place) in [
        (ClientAuth::tls("id"), "https://mtls.id.example/token"),
        (ClientAuth::basic("id", "secret"), TOKEN),
    ] {
        let server = publishing(OAUTH, document.clone());

        token(&server, auth).await.unwrap();

        assert_eq!(server.last_request().url, place);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_names_the_requested_endpoint() {
    let alias = json!({ "token_endpoint": "https://mtls.id.example/token" });
    let document = with(metadata(), METHODS, json!(["tls_client_auth"]));
    let document = with(document, "mtls_endpoint_aliases", alias);
    let server = Server::serving(move |url| match url {
        OAUTH => (200, document.to_string()),
        _ => (401, r#"{"error":"invalid_client"}"#.to_owned()),
    });

    let error = token(&server, ClientAuth::tls("id")).await.unwrap_err();

    let text = error.to_string();
    assert!(
        text.starts_with("token request to https://mtls.id.example/token was"),
        "{text}"
    );

    // Before one is known, the issuer as it is configured.
    let nowhere = Server::serving(|_| (404, String::new()));
    let endpoint = TokenEndpoint::discover("https://id.example", ClientAuth::tls("id"));
    let endpoint = endpoint.service(nowhere.service());
    assert!(
        format!("{endpoint:?}").contains(r#""https://id.example""#),
        "{endpoint:?}"
    );
    let error = handle(endpoint).token().await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("token request to https://id.example failed"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_plain_http_mtls_alias_is_an_error_if_it_is_used() {
    let alias = json!({ "token_endpoint": "http://mtls.id.example/token" });
    let methods = json!(["client_secret_basic", "tls_client_auth"]);
    let document = with(
        with(metadata(), METHODS, methods),
        "mtls_endpoint_aliases",
        alias,
    );
    let server = publishing(OAUTH, document);

    let error = token(&server, ClientAuth::tls("id")).await.unwrap_err();

    assert_eq!(error.kind(), Kind::InvalidResponse);
    assert!(
        error.to_string().contains("mtls_endpoint_aliases"),
        "{error}"
    );
    assert_eq!(server.urls(), [OAUTH]);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_bound_token_is_reported() {
    // {"cnf":{"x5t#S256":"a"}}
    let bound = r#"{"access_token":"e30.eyJjbmYiOnsieDV0I1MyNTYiOiJhIn19.c2ln","expires_in":60}"#;
    let server = Server::serving(move |_| (200, bound.to_owned()));
    let count = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&count);
    let handle = layer(server.endpoint(ClientAuth::tls("id")))
        .on_event(move |event| {
            if matches!(event, TokenEvent::BoundToken { .. }) {
                *counter.lock().unwrap() += 1;
            }
        })
        .build()
        .handle();

    handle.token().await.unwrap();
    server.answer(|_| (200, GRANTED.to_owned()));
    handle.refresh_now().await.unwrap();

    assert_eq!(*count.lock().unwrap(), 1);
}

#[cfg(feature = "jwt-aws-lc-rs")]
const ALGORITHMS: &str = "token_endpoint_auth_signing_alg_values_supported";
