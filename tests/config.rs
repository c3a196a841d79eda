//! Configuration from the environment and from files: what is read, and what is said about mistakes.

use std::collections::HashMap;

use tower_m2m::client_credentials::{Config, ConfigError};

const GOOD: [(&str, &str); 5] = [
    ("OAUTH_CLIENT_ID", "orders"),
    ("OAUTH_CLIENT_SECRET", "canary-secret"),
    ("OAUTH_TOKEN_URL", "https://issuer.example/oauth/token"),
    ("OAUTH_SCOPE", "orders.read orders.write"),
    (
        "OAUTH_ALLOWED_ORIGINS",
        "https://api.example.com https://files.example.com",
    ),
];

#[test]
fn everything_can_come_from_the_environment() {
    let layer = read(&[]).and_then(|config| config.layer()).unwrap();

    let text = format!("{layer:?}");
    assert!(text.contains("api.example.com") && text.contains("files.example.com"));
}

#[test]
fn a_prefix_of_ones_own_is_used_in_errors_too() {
    let error = Config::from_vars("ORDERS_", |_| None).unwrap_err();

    assert_eq!(error.key(), "ORDERS_CLIENT_ID");
}

#[test]
fn mistakes_name_the_variable_and_never_the_secret() {
    let cases: &[(&[(&str, &str)], &str, &str)] = &[
        (&[("OAUTH_CLIENT_ID", "")], "OAUTH_CLIENT_ID", "not set"),
        (
            &[("OAUTH_CLIENT_SECRET", "")],
            "OAUTH_CLIENT_SECRET",
            "not set",
        ),
        (
            &[("OAUTH_CLIENT_SECRET_FILE", "/secret")],
            "OAUTH_CLIENT_SECRET",
            "both set",
        ),
        (&[("OAUTH_TOKEN_URL", "")], "OAUTH_TOKEN_URL", "not set"),
        (
            &[("OAUTH_TOKEN_URL", "issuer.example")],
            "OAUTH_TOKEN_URL",
            "https",
        ),
        (
            &[("OAUTH_TOKEN_URL", "https://a b")],
            "OAUTH_TOKEN_URL",
            "not a URL",
        ),
        (
            &[("OAUTH_TOKEN_URL", "http://issuer.example/token")],
            "OAUTH_TOKEN_URL",
            "http",
        ),
        (
            &[("OAUTH_ISSUER", "https://issuer.example")],
            "OAUTH_TOKEN_URL",
            "both set",
        ),
        (
            &[("OAUTH_SCOPE", "orders\"read")],
            "OAUTH_SCOPE",
            "RFC 6749",
        ),
        (
            &[("OAUTH_CLIENT_AUTH", "digest")],
            "OAUTH_CLIENT_AUTH",
            "basic_raw",
        ),
        (
            &[("OAUTH_CLIENT_AUTH", "none")],
            "OAUTH_CLIENT_SECRET",
            "remove it",
        ),
        (
            &[("OAUTH_REFRESH_BEFORE", "30s")],
            "OAUTH_REFRESH_BEFORE",
            "seconds",
        ),
        (
            &[("OAUTH_ALLOWED_ORIGINS", "")],
            "OAUTH_ALLOWED_ORIGINS",
            "not set",
        ),
        (
            &[("OAUTH_ALLOWED_ORIGINS", "api")],
            "OAUTH_ALLOWED_ORIGINS",
            "api",
        ),
    ];
    for (changes, key, says) in cases {
        let error = read(changes).and_then(|config| config.layer()).unwrap_err();

        let text = error.to_string();
        assert_eq!(error.key(), *key, "{text}");
        assert!(text.starts_with(key) && text.contains(says), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn the_same_keys_are_read_from_a_file() {
    let config: Config = serde_json::from_str(
        r#"{"client_id": "orders", "client_secret": "canary-secret", "client_auth": "basic",
            "issuer": "https://issuer.example", "scope": "orders.read", "refresh_before": 60}"#,
    )
    .unwrap();

    assert!(config.endpoint().is_ok());
    assert!(!format!("{config:?}").contains("canary"));
    assert_eq!(config.layer().unwrap_err().key(), "allowed_origins");
    let origin = "https://api.example.com".parse().unwrap();
    assert!(config.layer_for(origin).is_ok());
}

#[test]
fn unknown_and_missing_keys_in_a_file_are_named() {
    let unknown = serde_json::from_str::<Config>(r#"{"client_id": "a", "client_sceret": "b"}"#);
    let missing = serde_json::from_str::<Config>(r#"{"client_secret": "b"}"#);

    assert!(unknown.unwrap_err().to_string().contains("client_sceret"));
    assert!(missing.unwrap_err().to_string().contains("client_id"));
}

/// From the good variables with some changed.
fn read(changes: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut vars: HashMap<_, _> = GOOD.into_iter().collect();
    vars.extend(changes.iter().copied());
    Config::from_vars("OAUTH_", |name| vars.get(name).map(|&v| v.to_owned()))
}
