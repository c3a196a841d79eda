//! The JSON key file of a Google service account.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tower_m2m::client_credentials::{
    GoogleServiceAccount, KeyAlgorithm, SigningKey, TokenErrorKind as Kind,
};

use crate::{
    EC, RSA, header,
    support::{
        server::{FIXED_SECONDS, Server, handle},
        temp_file::TempFile,
    },
    verified,
};

const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// A key file, as gcloud writes it.
fn key_file(id: &str) -> Value {
    json!({
        "type": "service_account",
        "project_id": "orders",
        "private_key_id": id,
        "private_key": RSA,
        "client_email": "orders@orders.iam.gserviceaccount.com",
        "client_id": "117000000000000000000",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": TOKEN_URI,
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "universe_domain": "googleapis.com",
    })
}

#[tokio::test(start_paused = true)]
async fn a_token_is_requested_with_what_the_file_says() {
    let file = TempFile::with_content("service-account", &key_file("key-1").to_string());
    for account in [
        GoogleServiceAccount::json(key_file("key-1").to_string()).unwrap(),
        GoogleServiceAccount::file(file.path()).await.unwrap(),
    ] {
        for (account, subject) in [
            (account.clone(), None),
            (
                account.subject("user@example.com"),
                Some("user@example.com"),
            ),
        ] {
            let server = Server::granting();
            let endpoint = account.endpoint().service(server.service());

            handle(endpoint.scope("https://www.googleapis.com/auth/cloud-platform"))
                .token()
                .await
                .unwrap();

            let asked = server.last_request();
            assert_eq!(asked.url, TOKEN_URI);
            let names: Vec<_> = asked.form.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["grant_type", "assertion"]);
            let assertion = asked.form_value("assertion").unwrap();
            let mut claims = verified(assertion, Algorithm::RS256);
            claims.as_object_mut().unwrap().remove("jti").unwrap();
            let mut expected = json!({
                "iss": "orders@orders.iam.gserviceaccount.com",
                "aud": TOKEN_URI,
                "scope": "https://www.googleapis.com/auth/cloud-platform",
                "iat": FIXED_SECONDS,
                "exp": FIXED_SECONDS + 300,
            });
            if let Some(subject) = subject {
                expected["sub"] = subject.into();
            }
            assert_eq!(claims, expected);
            assert_eq!(
                header(assertion),
                json!({ "alg": "RS256", "typ": "JWT", "kid": "key-1" })
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replaced_file_is_used_by_the_next_token_request() {
    let file = TempFile::with_content("replaced-account", &key_file("key-1").to_string());
    let server = Server::granting();
    let account = GoogleServiceAccount::file(file.path()).await.unwrap();
    let handle = handle(account.endpoint().service(server.service()));
    handle.token().await.unwrap();

    file.write(&key_file("key-2").to_string());
    handle.refresh_now().await.unwrap();

    let ids: Vec<_> = server
        .requests()
        .iter()
        .map(|asked| header(asked.form_value("assertion").unwrap())["kid"].clone())
        .collect();
    assert_eq!(ids, ["key-1", "key-2"]);
}

#[tokio::test]
async fn what_is_no_key_file_is_named() {
    let with = |name: &str, value: Value| {
        let mut file = key_file("key-1");
        file[name] = value;
        file.to_string()
    };
    for (text, found) in [
        ("canary".to_owned(), "found no JSON"),
        ("{}".to_owned(), "JSON without `type`"),
        (
            with("type", "external_account".into()),
            "a file of type `external_account`",
        ),
        (with("type", "canary".into()), "a file of another type"),
        (with("client_email", Value::Null), "without `client_email`"),
        (
            with("token_uri", "not a url canary".into()),
            "a `token_uri` that is not a URL",
        ),
        (with("private_key", EC.into()), "found an EC key on P-256"),
        (
            with("private_key", "canary".into()),
            "not a private key for RS256",
        ),
    ] {
        let file = TempFile::with_content("no-account", &text);
        for error in [
            GoogleServiceAccount::json(&text).unwrap_err(),
            GoogleServiceAccount::file(file.path()).await.unwrap_err(),
        ] {
            assert_eq!(
                (error.kind(), error.is_transient()),
                (Kind::Configuration, false)
            );
            assert!(error.to_string().contains(found), "{error}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }
    let error = GoogleServiceAccount::file("/nowhere/key.json")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::SecretUnavailable);
}

#[test]
fn a_token_endpoint_over_plain_http_is_refused() {
    let mut file = key_file("key-1");
    file["token_uri"] = "http://oauth2.googleapis.com/token".into();
    let account = GoogleServiceAccount::json(file.to_string()).unwrap();

    let error = account.endpoint().validate().unwrap_err();

    assert!(error.to_string().contains("plain http"), "{error}");
}

#[test]
fn nothing_prints_the_key() {
    let account = GoogleServiceAccount::json(key_file("key-1").to_string()).unwrap();
    let secret = RSA.lines().nth(2).unwrap();

    let printed = format!("{account:?} {:?}", account.endpoint());

    assert!(!printed.contains(secret), "{printed}");
    // The file is also a source of keys for other uses.
    let key = SigningKey::source(KeyAlgorithm::Rs256, key_file("key-1").to_string());
    assert!(!format!("{key:?}").contains(secret));
}
