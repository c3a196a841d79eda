//! Configuration from the environment and from files: what is read, and what is said about mistakes.

use std::{collections::HashMap, process::Command};

use serde_json::{Value, json};
use tower_m2m::client_credentials::{Config, ConfigError};

const GOOD: [(&str, &str); 5] = [
    ("OAUTH_CLIENT_ID", "orders"),
    ("OAUTH_CLIENT_SECRET", "canary-secret"),
    ("OAUTH_TOKEN_URL", "https://issuer.example/oauth/token"),
    ("OAUTH_SCOPE", "orders.read orders.write"),
    (
        "OAUTH_ALLOWED_ORIGINS",
        "https://api.example.com, https://files.example.com",
    ),
];

#[test]
fn everything_can_come_from_the_environment() {
    let layer = read(&[]).and_then(|config| config.layer()).unwrap();

    let text = format!("{layer:?}");
    assert!(text.contains("api.example.com") && text.contains("files.example.com"));
}

#[test]
fn a_custom_prefix_is_used_in_errors() {
    let error = Config::from_vars("ORDERS_", |_| None).unwrap_err();

    assert_eq!(error.key(), "ORDERS_CLIENT_ID");
}

#[test]
fn errors_name_the_variable_and_the_remedy() {
    for (changes, key, says) in [
        ("CLIENT_ID=", "CLIENT_ID", "is not set"),
        (
            "CLIENT_SECRET=",
            "CLIENT_SECRET",
            "neither is OAUTH_CLIENT_SECRET_FILE",
        ),
        (
            "CLIENT_SECRET= CLIENT_SECRET_VARIABLE=NOT_THERE",
            "CLIENT_SECRET_VARIABLE",
            "a variable that is not set",
        ),
        ("TOKEN_URL=", "TOKEN_URL", "or set OAUTH_ISSUER"),
        ("TOKEN_URL=issuer.example", "TOKEN_URL", "https://"),
        ("TOKEN_URL=https://a\\b", "TOKEN_URL", "not a URL"),
        (
            "TOKEN_URL=https://me:word@a/",
            "TOKEN_URL",
            "user information",
        ),
        (
            "TOKEN_URL=http://issuer.example/token",
            "TOKEN_URL",
            "use https, or set OAUTH_DANGEROUSLY_ALLOW_HTTP",
        ),
        (
            "ISSUER=https://issuer.example",
            "TOKEN_URL",
            "and OAUTH_ISSUER are both set",
        ),
        (
            "TOKEN_URL= ISSUER=https://issuer.example?a",
            "ISSUER",
            "a query",
        ),
        ("TOKEN_URL= ISSUER=issuer.example", "ISSUER", "https://"),
        ("TOKEN_URL=", "TOKEN_URL", "or OAUTH_PROTECTED_RESOURCE"),
        (
            "PROTECTED_RESOURCE=https://api.example",
            "TOKEN_URL",
            "and OAUTH_PROTECTED_RESOURCE are both set",
        ),
        (
            "TOKEN_URL= ISSUER=https://issuer.example PROTECTED_RESOURCE=https://api.example",
            "ISSUER",
            "move the issuer to OAUTH_ALLOWED_ISSUERS",
        ),
        (
            "TOKEN_URL= PROTECTED_RESOURCE=api.example/mcp",
            "PROTECTED_RESOURCE",
            "not a URL",
        ),
        (
            "TOKEN_URL= PROTECTED_RESOURCE=http://api.example",
            "PROTECTED_RESOURCE",
            "plain http",
        ),
        (
            "TOKEN_URL= PROTECTED_RESOURCE=https://api.example/mcp#tools",
            "PROTECTED_RESOURCE",
            "a fragment",
        ),
        (
            "ALLOWED_ISSUERS=https://issuer.example",
            "ALLOWED_ISSUERS",
            "set OAUTH_PROTECTED_RESOURCE instead",
        ),
        (
            "TOKEN_URL= ISSUER=https://issuer.example SUPPORTED_SCOPES=false",
            "SUPPORTED_SCOPES",
            "does not apply",
        ),
        (
            "TOKEN_URL= PROTECTED_RESOURCE=https://api.example ALLOWED_ISSUERS=https://a\thttps://b?c",
            "ALLOWED_ISSUERS",
            "a query or a fragment",
        ),
        (
            "TOKEN_URL= PROTECTED_RESOURCE=https://api.example SUPPORTED_SCOPES=all",
            "SUPPORTED_SCOPES",
            "neither true nor false",
        ),
        (
            "REVOKE_ON_SHUTDOWN=discovered",
            "REVOKE_ON_SHUTDOWN",
            "requires OAUTH_ISSUER or OAUTH_PROTECTED_RESOURCE",
        ),
        (
            "TOKEN_URL= PROTECTED_RESOURCE=https://api.example REVOKE_ON_SHUTDOWN=discovered REVOCATION_AUDIENCE=a",
            "REVOCATION_AUDIENCE",
            "name that issuer in OAUTH_ALLOWED_ISSUERS",
        ),
        (
            "AUTHORIZATION_DETAILS={}",
            "AUTHORIZATION_DETAILS",
            "array of objects",
        ),
        (
            "AUTHORIZATION_DETAILS={",
            "AUTHORIZATION_DETAILS",
            "not valid JSON",
        ),
        (
            "PARAMETERS={\"scope\":\"a\"}",
            "PARAMETERS",
            "contains scope, which has its own key",
        ),
        (
            "AUDIENCE=a PARAMETERS={\"audience\":\"a\"}",
            "PARAMETERS",
            "contains audience",
        ),
        ("PARAMETERS={\"a\":1}", "PARAMETERS", "in quotes"),
        ("CLIENT_AUTH=digest", "CLIENT_AUTH", "basic_raw, "),
        (
            "CLIENT_AUTH=basic_raw CLIENT_ID=a:b",
            "CLIENT_ID",
            "set OAUTH_CLIENT_AUTH to basic",
        ),
        ("CLIENT_AUTH=none", "CLIENT_SECRET", "which is none; remove"),
        (
            "CLIENT_SECRET= PRIVATE_KEY_FILE=/key",
            "PRIVATE_KEY_FILE",
            "which is post by default; remove it, or set OAUTH_CLIENT_AUTH to private_key_jwt, tls_client_auth",
        ),
        (
            "CLIENT_SECRET= CLIENT_AUTH=assertion",
            "ASSERTION_FILE",
            "is not set",
        ),
        (
            "CLIENT_SECRET= CLIENT_AUTH=tls_client_auth",
            "CERTIFICATE_FILE",
            "is not set",
        ),
        ("GRANT=password", "GRANT", "jwt_bearer, token_exchange"),
        ("GRANT=jwt_bearer", "GRANT_ASSERTION_FILE", "is not set"),
        ("GRANT=token_exchange", "SUBJECT_TOKEN_FILE", "is not set"),
        (
            "SUBJECT_TOKEN_FILE=/a",
            "SUBJECT_TOKEN_FILE",
            "set OAUTH_GRANT to token_exchange",
        ),
        ("API_KEY=key", "API_KEY", "and OAUTH_CLIENT_ID are both set"),
        (
            "API_KEY=key API_KEY_FILE=/key",
            "API_KEY",
            "and OAUTH_API_KEY_FILE are both set",
        ),
        ("REFRESH_BEFORE=30s", "REFRESH_BEFORE", "seconds"),
        ("FETCH_TIMEOUT=0", "FETCH_TIMEOUT", "is 0"),
        ("REPLAY=yes", "REPLAY", "neither true nor false"),
        ("HEADER=x\\key", "HEADER", "not a header name"),
        ("SCHEME=a\\b", "SCHEME", "not an authentication scheme"),
        ("ALLOWED_ORIGINS=", "ALLOWED_ORIGINS", "is not set"),
        ("ALLOWED_ORIGINS=api", "ALLOWED_ORIGINS", "it has no scheme"),
        (
            "ALLOWED_ORIGINS=https://a,https://b/v1",
            "ALLOWED_ORIGINS",
            "(number 2) is not an origin such as https://api.example.com: it has a path",
        ),
        (
            "ALLOWED_ORIGINS=http://api.example",
            "ALLOWED_ORIGINS",
            "plain http",
        ),
        ("ASSUME_ORIGIN=api", "ASSUME_ORIGIN", "it has no scheme"),
    ] {
        let changes: Vec<_> = changes
            .split(' ')
            .map(|c| c.split_once('=').unwrap())
            .collect();

        let error = read(&changes)
            .and_then(|config| config.layer())
            .unwrap_err();

        let text = error.to_string();
        assert_eq!(error.key(), format!("OAUTH_{key}"), "{text}");
        assert!(
            text.starts_with(error.key()) && text.contains(says),
            "{text}"
        );
    }
}

#[test]
fn an_error_returned_from_main_prints_key_and_remedy() {
    let error = read(&[("CLIENT_SECRET_FILE", "/secret")]).unwrap_err();

    assert_eq!(
        format!("Error: {error:?}"),
        "Error: ConfigError(OAUTH_CLIENT_SECRET and OAUTH_CLIENT_SECRET_FILE are both set; keep one of them)"
    );
}

#[test]
fn plain_http_can_be_allowed() {
    let changes = [
        ("TOKEN_URL", "http://issuer.example/token"),
        ("ALLOWED_ORIGINS", "http://api.example"),
        ("DANGEROUSLY_ALLOW_HTTP", "true"),
    ];

    assert!(read(&changes).and_then(|config| config.layer()).is_ok());
}

#[test]
fn an_audience_may_be_set_where_only_listed_servers_receive_it() {
    let api = ("PROTECTED_RESOURCE", "https://api.example");
    for changes in [
        &[("ALLOWED_ISSUERS", "https://issuer.example")][..],
        // A server that is configured, not chosen.
        &[("REVOKE_ON_SHUTDOWN", "https://issuer.example/revoke")],
    ] {
        let audience = [("TOKEN_URL", ""), api, ("REVOCATION_AUDIENCE", "a")];
        let changes: Vec<_> = audience
            .into_iter()
            .chain(changes.iter().copied())
            .collect();

        assert!(read(&changes).is_ok(), "{changes:?}");
    }
}

#[cfg(feature = "jwt")]
#[test]
fn an_assertion_for_a_server_that_the_api_names_needs_no_audience() {
    let read = |audience, allowed| {
        read(&[
            ("TOKEN_URL", ""),
            ("PROTECTED_RESOURCE", "https://api.example"),
            ("CLIENT_AUTH", "client_secret_jwt"),
            ("ASSERTION_AUDIENCE", audience),
            ("ALLOWED_ISSUERS", allowed),
        ])
    };
    for audience in ["", "token_endpoint", "requested_endpoint"] {
        let error = read(audience, "").err();
        // A build without a crypto provider says so.
        assert!(
            error.is_none() || error.is_some_and(|error| error.key() == "OAUTH_CLIENT_AUTH"),
            "{audience}"
        );
    }
    let error = read("https://issuer.example", "").unwrap_err();
    assert_eq!(error.key(), "OAUTH_ASSERTION_AUDIENCE");
    assert!(
        error.to_string().contains("OAUTH_ALLOWED_ISSUERS"),
        "{error}"
    );
    let error = read("https://issuer.example", "https://issuer.example").err();
    assert!(error.is_none_or(|error| error.key() == "OAUTH_CLIENT_AUTH"));
}

#[test]
fn the_same_keys_are_read_from_a_file() {
    let config = file(&json!({
        "client_id": "orders", "client_secret": "canary-secret", "client_auth": "basic",
        "issuer": "https://issuer.example", "scope": ["orders.read"], "refresh_before": 60,
        "parameters": {"tenant": "a"}, "authorization_details": [{"type": "a"}], "replay": false,
        "audience": null,
    }))
    .unwrap();

    assert!(config.endpoint().is_ok());
    assert_eq!(config.layer().unwrap_err().key(), "allowed_origins");
    let origin = "https://api.example.com".parse().unwrap();
    assert!(config.layer_for(origin).is_ok());
    let debug = format!("{config:?}");
    assert!(
        debug.contains("\"client_secret\"") && !debug.contains("canary"),
        "{debug}"
    );
}

#[test]
fn file_errors_are_reported_at_deserialization() {
    for (text, says) in [
        (
            r#"{"client_sceret": "a"}"#,
            "client_sceret is not a known key; did you mean client_secret?",
        ),
        (r#"{"colour": "a"}"#, "colour is not a known key; remove it"),
        (
            r#"{"client_id": "a", "client_id": "b"}"#,
            "client_id is set twice",
        ),
        (
            r#"{"client_secret": 1234}"#,
            "client_secret is not a string; put it in quotes",
        ),
        (
            r#"{"scope": [1]}"#,
            "scope is not a string or a list of strings",
        ),
        (
            r#"{"refresh_before": -1}"#,
            "refresh_before is not a whole number of seconds",
        ),
        (
            r#"{"client_secret_variable": "NOT_THERE"}"#,
            "client_secret_variable names a variable",
        ),
        (r#""client_id=a""#, "expected a table of keys"),
    ] {
        let error = serde_json::from_str::<Config>(text)
            .unwrap_err()
            .to_string();

        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_misspelled_variable_is_reported_and_unrelated_ones_are_not() {
    if std::env::var_os("TOWER_M2M_CHILD").is_some() {
        println!("read: {:?}", Config::from_env());
        return;
    }
    for (name, says) in [
        (
            "OAUTH_SCOPES",
            "read: Err(ConfigError(OAUTH_SCOPES is not a known variable; did you mean OAUTH_SCOPE?))",
        ),
        ("OAUTH_SERVICE_HOST", "read: Ok(Config"),
    ] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("a_misspelled_variable_is_reported_and_unrelated_ones_are_not")
            .envs(GOOD)
            .envs([("TOWER_M2M_CHILD", "1"), (name, "a")])
            .output()
            .unwrap();

        let printed = String::from_utf8_lossy(&child.stdout);
        assert!(printed.contains(says), "{printed}");
    }
}

#[cfg(not(feature = "jwt"))]
#[test]
fn a_disabled_feature_is_named() {
    for method in ["client_secret_jwt", "private_key_jwt"] {
        let changes = [("CLIENT_AUTH", method), ("CLIENT_SECRET", "")];
        let error = read(&changes).unwrap_err();

        assert_eq!(error.key(), "OAUTH_CLIENT_AUTH");
        assert!(error.to_string().contains("`jwt-aws-lc-rs`"), "{error}");
    }
}

fn file(keys: &Value) -> Result<Config, serde_json::Error> {
    serde_json::from_str(&keys.to_string())
}

/// From the good variables with some changed.
fn read(changes: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut vars: HashMap<_, _> = GOOD.map(|(name, value)| (name.to_owned(), value)).into();
    vars.extend(
        changes
            .iter()
            .map(|&(key, value)| (format!("OAUTH_{key}"), value)),
    );
    Config::from_vars("OAUTH_", |name| vars.get(name).map(|&v| v.to_owned()))
}
