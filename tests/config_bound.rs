//! Keys of a configuration for bound tokens and for the proxy.

mod support;

use tower_m2m::client_credentials::{Config, ConfigError};

/// A configuration with `more` keys.
fn config(more: serde_json::Value) -> Config {
    let mut keys = serde_json::json!({
        "client_id": "id", "client_secret": "secret", "token_url": support::server::TOKEN_URL,
    });
    let serde_json::Value::Object(more) = more else {
        panic!("not an object");
    };
    keys.as_object_mut().unwrap().extend(more);
    serde_json::from_value(keys).unwrap()
}

fn error(more: serde_json::Value) -> ConfigError {
    config(more).endpoint().unwrap_err()
}

#[test]
fn a_key_that_does_not_apply_is_named() {
    for (key, needs) in [
        ("dpop_key_file", "dpop_bound_access_tokens"),
        ("dpop_signing_algorithm", "dpop_bound_access_tokens"),
        (
            "api_certificate_file",
            "tls_client_certificate_bound_access_tokens",
        ),
    ] {
        let error = error(serde_json::json!({ key: "canary" }));

        assert_eq!(error.key(), key);
        let text = error.to_string();
        assert!(text.contains(needs) && !text.contains("canary"), "{text}");
    }
}

#[test]
fn a_token_is_bound_to_one_of_both() {
    let error = error(serde_json::json!({
        "dpop_bound_access_tokens": true, "tls_client_certificate_bound_access_tokens": true,
    }));

    assert_eq!(error.key(), "dpop_bound_access_tokens");
}

#[test]
fn bindings_may_be_turned_off() {
    let config = config(serde_json::json!({
        "dpop_bound_access_tokens": false, "tls_client_certificate_bound_access_tokens": false,
    }));

    assert!(config.endpoint().is_ok());
}

#[cfg(all(feature = "dpop", feature = "jwt-rust-crypto"))]
#[tokio::test(start_paused = true)]
async fn token_requests_have_proofs_of_a_generated_key_or_of_that_in_a_file() {
    use tower_m2m::ClientCredentialsLayer;

    let mut proofs = Vec::new();
    for more in [
        serde_json::json!({}),
        serde_json::json!({ "dpop_key_file": "tests/keys/ec.jwk" }),
        serde_json::json!({ "dpop_key_file": "tests/keys/ec.pem" }),
        serde_json::json!({
            "dpop_key_file": "tests/keys/ed.pem", "dpop_signing_algorithm": "EdDSA",
        }),
    ] {
        let mut keys = more;
        keys["dpop_bound_access_tokens"] = true.into();
        let server = support::server::Server::serving(|_| {
            (
                200,
                r#"{"access_token":"a","token_type":"DPoP"}"#.to_owned(),
            )
        });
        let endpoint = config(keys).endpoint().unwrap().service(server.service());
        let layer = ClientCredentialsLayer::builder(endpoint, support::origin()).build();

        layer.handle().token().await.unwrap();

        let proof = server.last_request().headers["dpop"].clone();
        proofs.push(
            proof
                .to_str()
                .unwrap()
                .split('.')
                .next()
                .unwrap()
                .to_owned(),
        );
    }
    // The header contains the public key.
    assert_eq!(proofs[1], proofs[2]);
    assert_ne!(proofs[0], proofs[1]);
    assert_ne!(proofs[3], proofs[1]);
}

#[cfg(all(feature = "dpop", feature = "jwt-rust-crypto"))]
#[test]
fn an_unusable_dpop_key_is_named() {
    for (file, algorithm, key, says) in [
        ("/canary", None, "dpop_key_file", "cannot be read"),
        (
            "tests/keys/rsa.pem",
            None,
            "dpop_key_file",
            "not a private key for ES256",
        ),
        (
            "tests/keys/ec.pem",
            Some("HS256"),
            "dpop_signing_algorithm",
            "must be one of",
        ),
        ("", Some("ES256"), "dpop_signing_algorithm", "is not"),
    ] {
        let error = error(serde_json::json!({
            "dpop_bound_access_tokens": true, "dpop_key_file": file, "dpop_signing_algorithm": algorithm,
        }));

        assert_eq!(error.key(), key, "{error}");
        let text = error.to_string();
        assert!(text.contains(says) && !text.contains("canary"), "{text}");
    }
}

#[cfg(not(feature = "dpop"))]
#[test]
fn a_missing_feature_is_named() {
    let error = error(serde_json::json!({ "dpop_bound_access_tokens": true }));

    assert!(error.to_string().contains("the feature `dpop`"), "{error}");
}

#[cfg(feature = "https")]
#[test]
fn a_certificate_is_required_for_binding() {
    let bound = "tls_client_certificate_bound_access_tokens";
    let error = error(serde_json::json!({ bound: true }));
    assert_eq!(error.key(), bound);
    assert!(error.to_string().contains("certificate_file"), "{error}");

    let keys = serde_json::json!({
        "client_id": "id", "client_auth": "tls_client_auth", "token_url": support::server::TOKEN_URL,
        "certificate_file": "tests/certificates/client.pem",
        "private_key_file": "tests/certificates/client.key",
        "api_certificate_file": "tests/certificates/client.pem", bound: true,
    });
    let config: Config = serde_json::from_value(keys).unwrap();
    assert!(config.endpoint().is_ok());
}

#[cfg(feature = "https")]
#[test]
fn a_proxy_is_a_url_or_a_word() {
    for proxy in [
        "http://user:canary@proxy.internal:3128",
        "proxy.internal:3128",
        "https://proxy.internal",
        "none",
        "environment",
    ] {
        let config =
            config(serde_json::json!({ "proxy": proxy, "no_proxy": ".internal 10.0.0.0/8" }));
        let endpoint = config.endpoint().unwrap();
        assert!(!format!("{config:?} {endpoint:?}").contains("canary"));
    }
    for proxy in ["socks5://user:canary@proxy", "//canary", "http://"] {
        let error = error(serde_json::json!({ "proxy": proxy }));

        assert_eq!(error.key(), "proxy");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
