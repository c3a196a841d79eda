//! A secret that stands at the wrong key of a configuration is not shown, whatever is wrong with it.

use serde_json::{Value, json};
use tower_m2m::client_credentials::Config;

#[test]
fn a_secret_in_the_wrong_key_is_not_shown() {
    let mut shown = 0;
    for key in keys() {
        for start in starts() {
            for pasted in pasted() {
                let mut keys = start.clone();
                keys[&key] = pasted.clone();
                let outcome = file(&keys).map_err(|error| format!("{error} {error:?}"));
                let text = match outcome {
                    Ok(config) => {
                        let error = config.layer().err();
                        let text = error.map(|error| format!("{error} {error:?}"));
                        format!("{config:?} {text:?}")
                    }
                    Err(text) => text,
                };
                shown += text.len();
                assert!(
                    !text.contains("canary") && !text.contains("31337"),
                    "{key}: {text}"
                );
            }
        }
    }
    assert!(shown > 0);
}

#[test]
fn unknown_keys_are_shown_truncated() {
    let error = file(&json!({"client_secret=canary": ""}))
        .unwrap_err()
        .to_string();

    assert!(
        error.starts_with("client_secret… is not a known key"),
        "{error}"
    );
    assert!(!error.contains("canary"), "{error}");
}

#[test]
fn debug_output_shows_no_secret() {
    for start in starts() {
        let config = file(&start).unwrap();

        let built = format!("{config:?} {:?} {:?}", config.endpoint(), config.layer());
        assert!(!built.contains("hidden"), "{built}");
    }
}

/// Good configurations of every kind, in which nothing is a canary yet.
fn starts() -> Vec<Value> {
    let common = json!({
        "client_id": "orders", "client_secret": "hidden", "token_url": "https://issuer.example/token",
        "parameters": {"tenant": "hidden"}, "allowed_origins": "https://api.example.com",
    });
    let with = |changes: Value| {
        let mut start = common.clone();
        for (key, value) in changes.as_object().unwrap() {
            start[key] = value.clone();
        }
        start
    };
    vec![
        common.clone(),
        with(json!({"token_url": null, "issuer": "https://issuer.example"})),
        with(json!({
            "token_url": null, "protected_resource": "https://api.example.com/mcp",
            "allowed_issuers": "https://issuer.example", "supported_scopes": true,
        })),
        with(
            json!({"client_auth": "assertion", "client_secret": null, "assertion_file": "/hidden"}),
        ),
        with(json!({"grant": "token_exchange", "subject_token_file": "/hidden"})),
        with(json!({"client_auth": "basic_raw"})),
        json!({"api_key": "hidden", "allowed_origins": "https://api.example.com"}),
        #[cfg(feature = "jwt")]
        with(json!({"client_auth": "client_secret_jwt", "assertion_audience": "a"})),
        #[cfg(feature = "jwt")]
        with(json!({
            "client_auth": "private_key_jwt", "client_secret": null, "assertion_audience": "a",
            "private_key": include_str!("keys/ec.pem"), "signing_algorithm": "ES256",
        })),
    ]
}

fn pasted() -> Vec<Value> {
    vec![
        json!("canary"),
        json!("canary\" quote"),
        json!("canary:\\"),
        json!("/canary\u{7f}"),
        json!("https://me:canary@api.example.com/?canary#canary"),
        json!("https://api.example.com/canary"),
        json!("https://api.example.com https://canary/canary"),
        json!("http://canary.example"),
        json!("{\"canary\": \"canary\"}"),
        json!("{\"canary\": canary"),
        json!(31337.5),
        json!(-31337),
        json!(["canary\"", 31337]),
        json!({"canary": "canary"}),
        json!({"canary": 31337}),
    ]
}

/// Every key that the configuration reads.
fn keys() -> Vec<String> {
    let asked = std::cell::RefCell::default();
    let none = Config::from_vars("", |name| {
        Vec::push(&mut *asked.borrow_mut(), name.to_ascii_lowercase());
        None
    });
    assert!(none.is_err());
    let asked: Vec<String> = asked.into_inner();
    assert!(asked.len() > 40);
    asked
}

fn file(keys: &Value) -> Result<Config, serde_json::Error> {
    serde_json::from_str(&keys.to_string())
}
