//! A configuration inside of a program's own, in TOML and YAML.

use serde::Deserialize;
use tower_m2m::client_credentials::Config;

#[derive(Debug, Deserialize)]
struct Program {
    port: u16,
    orders: Config,
}

#[derive(Debug, Deserialize)]
struct Flat {
    port: u16,
    #[serde(flatten)]
    orders: Config,
}

const KEYS: &str = r#"
client_id = "orders"
client_secret = "word"
token_url = "https://id.example/token"
scope = ["a", "b"]
refresh_before = 60
replay = false
authorization_details = [{ type = "a", actions = ["read"] }]
parameters = { tenant = "x" }
allowed_origins = "https://api.example.com"
"#;

#[test]
fn toml_supports_a_separate_table_or_flattened_keys() {
    let nested: Program = toml::from_str(&format!("port = 1\n[orders]{KEYS}")).unwrap();
    let flat: Flat = toml::from_str(&format!("port = 1{KEYS}")).unwrap();

    assert!(nested.orders.layer().is_ok() && flat.orders.layer().is_ok());
    assert_eq!(nested.port, flat.port);
    assert_eq!(format!("{:?}", nested.orders), format!("{:?}", flat.orders));
}

#[test]
fn toml_reports_the_line_of_an_unknown_key() {
    let text = format!("port = 1\n[orders]{KEYS}client_auht = 'basic'");

    let error = toml::from_str::<Program>(&text).unwrap_err();

    let message = error.message();
    assert_eq!(
        message,
        "client_auht is not a known key; did you mean client_auth?"
    );
    assert!(error.span().is_some());
}

#[test]
fn an_unknown_flattened_key_is_named() {
    let text = format!("port = 1{KEYS}client_auht = 'basic'");

    let error = toml::from_str::<Flat>(&text).unwrap_err();

    assert_eq!(
        error.message(),
        "client_auht is not a known key; did you mean client_auth?"
    );
}

#[test]
fn yaml_requires_quotes_for_a_numeric_secret() {
    let yaml = "client_id: orders\nclient_secret: '31337'\nscope: [a, b]\ntoken_url: https://id.example/token\n";
    let config: Config = serde_saphyr::from_str(yaml).unwrap();

    assert!(config.endpoint().is_ok());
    let error = serde_saphyr::from_str::<Config>("client_secret: 31337").unwrap_err();
    let error = error.without_snippet().to_string();
    assert!(
        error.contains("client_secret is not a string; put it in quotes"),
        "{error}"
    );
    assert!(!error.contains("31337"), "{error}");
}
