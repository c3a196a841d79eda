//! Files and the environment.

use std::{collections::HashMap, path::Path};

use gateway::Config;

use crate::support::{KEY, Upstream, issuer, send};

#[tokio::test]
async fn one_tenant_can_come_from_the_environment() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let variables = HashMap::from([
        ("GATEWAY_LISTEN", "127.0.0.1:0".to_owned()),
        ("GATEWAY_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
        ("GATEWAY_UPSTREAM", upstream.origin.clone()),
        ("GATEWAY_CALLER_KEYS", format!("another-key-of-acme,{KEY}")),
        ("OAUTH_CLIENT_ID", "acme".to_owned()),
        ("OAUTH_CLIENT_SECRET", "acme-secret".to_owned()),
        ("OAUTH_TOKEN_URL", issuer.token_url()),
        ("OAUTH_HEADER", "x-token".to_owned()),
    ]);
    let config = Config::read(None, |name| variables.get(name).cloned()).unwrap();
    let gateway = gateway::Gateway::start(&config).await.unwrap();

    let response = send(&gateway, "GET", "/").await;

    assert_eq!(response.status, 200);
    let asked = upstream.asked().remove(0);
    assert!(issuer.is_valid(asked.header("x-token").unwrap()));
}

#[tokio::test]
async fn what_is_wrong_with_the_configuration_is_told_without_secrets() {
    let tenant = "[tenants.acme]\nupstream = \"https://api.example.com\"\n";
    let key = "caller_keys = [\"canary-canary-canary\"]\n";
    for (text, told) in [
        ("", "missing field `tenants`"),
        (
            "[tenants.acme]\ncaller_keyz = [\"canary\"]",
            "unknown field `caller_keyz`",
        ),
        ("[tenants]\nx = \"canary", "line 3"),
        (tenant, "tenant \"acme\": has no caller keys"),
        (
            &format!("{tenant}caller_keys = [\"canary\"]"),
            "less than 16 characters",
        ),
        (
            &format!("{tenant}{key}[tenants.acme.credentials]"),
            "client_id is not set",
        ),
        (
            &format!("{tenant}{key}[tenants.acme.credentials]\nclient_sceret = \"canary\""),
            "did you mean client_secret?",
        ),
        (
            &format!("{tenant}{key}[tenants.b]\nupstream = \"https://b.example\"\n{key}"),
            "tenant \"b\": has a caller key that is used twice",
        ),
        (
            &format!("[tenants.acme]\nupstream = \"https://a.example/path\"\n{key}"),
            "it has a path",
        ),
    ] {
        let config = Config::parse(&format!("listen = \"127.0.0.1:0\"\n{text}"));
        let error = match config {
            Err(error) => error,
            Ok(config) => gateway::Gateway::start(&config).await.unwrap_err(),
        };

        let error = error.to_string();
        assert!(error.contains(told), "{told} in {error}");
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn the_configuration_shows_no_keys() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.toml"));
    let config = Config::read(Some(path), |_| None).unwrap();

    let shown = format!("{config:?}");

    assert!(shown.contains("127.0.0.1:8082"), "{shown}");
    assert!(
        !shown.contains("caller-key") && !shown.contains("acme-secret"),
        "{shown}"
    );
}
