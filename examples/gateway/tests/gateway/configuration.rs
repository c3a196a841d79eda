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
    let asked = upstream.requests().remove(0);
    assert!(issuer.is_valid(asked.header("x-token").unwrap()));
}

#[tokio::test]
async fn configuration_errors_do_not_show_secrets() {
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
            "shorter than 16 characters",
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
            "tenant \"acme\": upstream: ",
        ),
        (
            &format!("[tenants.acme]\nupstream = \"https://a.example/path\"\n{key}"),
            "it has a path",
        ),
        ("[tenants]\n", "tenants: none is configured"),
        (
            &format!("[tenants.\"\"]\nupstream = \"https://a.example\"\n{key}"),
            "its name must consist of",
        ),
        (&format!("deadline = 0\n{tenant}{key}"), "deadline is 0"),
        (
            &format!("deadline = \"canary\"\n{tenant}{key}"),
            "line 2: deadline: invalid type: string, expected u64",
        ),
        (
            &format!("admin_listen = \"canary\"\n{tenant}{key}"),
            "admin_listen: ",
        ),
        (
            &format!("{tenant}caller_keys = \"canary-canary-canary\""),
            "tenants.acme.caller_keys: invalid type: string, expected a sequence",
        ),
        (
            &format!("{tenant}caller_keys = [\" canary-canary-canary\"]"),
            "caller_keys: a key has leading or trailing spaces",
        ),
        (
            &format!("{tenant}caller_keys = [\"canary-canary-canary\\n\"]"),
            "caller_keys: a key has leading or trailing spaces",
        ),
        (
            &format!("{tenant}caller_keys = [\"canary-c\u{e4}nary-canary\"]"),
            "characters that a header cannot contain",
        ),
        (
            &format!("{tenant}caller_keys_file = \"/not/there\""),
            "caller_keys_file /not/there: No such file",
        ),
        (
            &format!("{tenant}{key}path_templates = [\"orders\"]"),
            "path_templates: \"orders\" does not start with a slash",
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

#[tokio::test]
async fn a_disallowed_origin_fails_at_startup() {
    let key = "caller_keys = [\"0123456789abcdef\"]\n";
    let credentials = "[tenants.acme.credentials]\ntoken_url = \"https://issuer.example/token\"\n\
                       client_id = \"acme\"\nclient_secret = \"secret\"\n";
    for (upstream, more, told) in [
        ("http://api.example", "", Some("dangerously_allow_http")),
        ("http://api.example", "dangerously_allow_http = true", None),
        ("http://127.0.0.1:1", "", None),
        (
            "https://api.example",
            "allowed_origins = [\"https://other.example\"]",
            Some("is not among allowed_origins"),
        ),
        (
            "https://api.example",
            "allowed_origins = [\"https://other.example\", \"https://API.example:443\"]",
            None,
        ),
    ] {
        let text = format!("[tenants.acme]\nupstream = \"{upstream}\"\n{key}{credentials}{more}");

        let config = Config::parse(&text);

        match (config, told) {
            (Ok(_), None) => {}
            (Err(error), Some(told)) => {
                let error = error.to_string();
                assert!(error.contains(told), "{error}");
                assert!(error.contains("tenant \"acme\": upstream: "), "{error}");
            }
            (config, told) => panic!("{upstream} {more}: {told:?}, {config:?}"),
        }
    }
}

#[tokio::test]
async fn errors_name_the_file_the_listener_and_the_variable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong.toml");
    let tenant =
        "[tenants.a]\nupstream = \"https://a.example\"\ncaller_keys = [\"0123456789abcdef\"]\n";
    let nothing = |_: &str| None;

    for (text, told) in [
        (
            format!("deadline = -1\n{tenant}"),
            "line 1: deadline: invalid value: integer",
        ),
        (format!("deadline = 0\n{tenant}"), "deadline is 0"),
        (String::new(), "missing field `tenants`"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Config::read(Some(&path), nothing).unwrap_err().to_string();
        assert!(error.starts_with(path.to_str().unwrap()), "{error}");
        assert!(error.contains(told), "{error}");
    }
    let listeners = ["listen", "admin_listen"];
    for key in listeners {
        let other = listeners.iter().find(|other| **other != key).unwrap();
        let text = format!("{key} = \"{taken}\"\n{other} = \"127.0.0.1:0\"\n{tenant}");
        std::fs::write(&path, text).unwrap();
        let config = Config::read(Some(&path), nothing).unwrap();
        let error = gateway::Gateway::start(&config).await.unwrap_err();
        let expected = format!("{}: {key}: cannot listen at {taken}: ", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    let variables = |name: &str| {
        let text = match name {
            "GATEWAY_UPSTREAM" => "https://a.example/path",
            "GATEWAY_CALLER_KEYS" => "0123456789abcdef",
            "OAUTH_CLIENT_ID" | "OAUTH_CLIENT_SECRET" => "acme",
            "OAUTH_TOKEN_URL" => "https://issuer.example/token",
            _ => return None,
        };
        Some(text.to_owned())
    };
    let error = Config::read(None, variables).unwrap_err().to_string();
    assert!(error.contains("GATEWAY_UPSTREAM: "), "{error}");
    let error = Config::read(None, nothing).unwrap_err().to_string();
    assert!(error.contains("GATEWAY_UPSTREAM is not set"), "{error}");
    let listen = |name: &str| match name {
        "GATEWAY_LISTEN" => Some("8080".to_owned()),
        "GATEWAY_UPSTREAM" => Some("https://a.example".to_owned()),
        name => variables(name),
    };
    let error = Config::read(None, listen).unwrap_err().to_string();
    assert!(error.starts_with("GATEWAY_LISTEN "), "{error}");
}

#[test]
fn debug_output_of_the_configuration_shows_no_keys() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.toml"));
    let config = Config::read(Some(path), |_| None).unwrap();

    let shown = format!("{config:?}");

    assert!(shown.contains("127.0.0.1:8082"), "{shown}");
    assert!(
        !shown.contains("caller-key") && !shown.contains("acme-secret"),
        "{shown}"
    );
}
