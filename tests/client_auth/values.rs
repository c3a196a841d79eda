//! Values with what editors, shells and secret stores leave around them, and values that newer rules forbid.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{
        ClientAuthentication, Config, Grant, SecretFile, SecretSource, TokenError, TokenEvent,
        TokenExchange, TokenHandle, TokenRequest,
    },
};

use super::support::{
    server::{Server, TOKEN_URL, layer},
    temp_file::TempFile,
};

#[tokio::test]
async fn line_breaks_and_marks_around_a_secret_are_trimmed_and_reported_once() {
    for (given, sent) in [
        ("s3cr3t\n", "s3cr3t"),
        ("s3cr3t\r\n\n", "s3cr3t"),
        ("\u{FEFF}s3cr3t\r\n", "s3cr3t"),
        ("s3cr3t\0", "s3cr3t"),
        ("\n s3cr3t \n", " s3cr3t "),
    ] {
        let server = Server::granting();
        let (handle, events) = with_events(server.endpoint(ClientAuth::post("id", given)));

        handle.token().await.unwrap();
        handle.refresh_now().await.unwrap();

        assert_eq!(
            server.last_request().form_value("client_secret"),
            Some(sent),
            "{given:?}"
        );
        assert_eq!(events.take(), ["client secret"], "{given:?}");
    }
}

#[tokio::test]
async fn spaces_around_a_secret_are_sent() {
    let server = Server::granting();
    let (handle, events) = with_events(server.endpoint(ClientAuth::post("id", " s3cr3t ")));

    handle.token().await.unwrap();

    assert_eq!(
        server.last_request().form_value("client_secret"),
        Some(" s3cr3t ")
    );
    assert!(events.take().is_empty());
}

#[tokio::test]
async fn a_final_line_break_in_a_file_is_not_reported_and_other_marks_are() {
    let file = TempFile::with_content("marks", "first\n");
    let server = Server::granting();
    let auth = ClientAuth::post("id", SecretFile::new(file.path()));
    let (handle, events) = with_events(server.endpoint(auth));

    handle.token().await.unwrap();
    assert!(events.take().is_empty());
    file.write("\u{FEFF}second\r\n\n");
    handle.refresh_now().await.unwrap();

    assert_eq!(
        server.last_request().form_value("client_secret"),
        Some("second")
    );
    assert_eq!(events.take(), ["client secret"]);
    let read = SecretFile::new(file.path()).read().await.unwrap();
    assert_eq!(read.expose(), "second");
}

#[tokio::test]
async fn a_utf_16_file_is_named() {
    let file = TempFile::with_content("utf-16", "");
    std::fs::write(file.path(), b"\xFF\xFEs\0").unwrap();

    let error = SecretFile::new(file.path()).read().await.unwrap_err();

    assert!(error.to_string().contains("save it as UTF-8"), "{error}");
}

#[tokio::test]
async fn ids_audiences_and_parameters_are_trimmed() {
    let server = Server::granting();
    let endpoint = server
        .endpoint(ClientAuth::basic("id\n", "secret"))
        .audience("api\r\n")
        .scope("\u{FEFF}read\twrite\n")
        .parameter("tenant", "t\n");
    let (handle, events) = with_events(endpoint);

    handle.token().await.unwrap();

    let asked = server.last_request();
    // id:secret
    assert_eq!(asked.headers["authorization"], "Basic aWQ6c2VjcmV0");
    assert_eq!(asked.form_value("audience"), Some("api"));
    assert_eq!(asked.form_value("scope"), Some("read write"));
    assert_eq!(asked.form_value("tenant"), Some("t"));
    assert_eq!(events.take(), ["client id", "audience", "scope", "tenant"]);
}

#[tokio::test]
async fn configuration_variables_are_trimmed_and_named() {
    let vars = |name: &str| {
        let value = match name {
            "OAUTH_CLIENT_ID" => "orders\n",
            "OAUTH_CLIENT_SECRET" => "s3cr3t\n",
            "OAUTH_TOKEN_URL" => "\u{FEFF}https://id.example/token\r\n",
            "OAUTH_AUDIENCE" => "api\n",
            "OAUTH_SCOPE" => "read\n",
            "OAUTH_DEFAULT_LIFETIME" => "60\n",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let server = Server::granting();
    let config = Config::from_vars("OAUTH_", vars).unwrap();
    let (handle, events) = with_events(config.endpoint().unwrap().service(server.service()));

    handle.token().await.unwrap();

    let asked = server.last_request();
    assert_eq!(asked.url, TOKEN_URL);
    assert_eq!(asked.form_value("client_id"), Some("orders"));
    assert_eq!(asked.form_value("client_secret"), Some("s3cr3t"));
    assert_eq!(asked.form_value("audience"), Some("api"));
    assert_eq!(asked.form_value("scope"), Some("read"));
    let named = [
        "OAUTH_CLIENT_ID",
        "OAUTH_CLIENT_SECRET",
        "OAUTH_TOKEN_URL",
        "OAUTH_AUDIENCE",
    ];
    assert_eq!(events.take(), named);
}

#[test]
fn a_value_of_only_a_line_break_counts_as_unset() {
    for (secret, variable) in [("\n", ""), ("\u{FEFF}\r\n", ""), (" ", ""), ("", "VAULT")] {
        let vars = |name: &str| {
            let value = match name {
                "OAUTH_CLIENT_ID" => "orders",
                "OAUTH_CLIENT_SECRET" => secret,
                "OAUTH_CLIENT_SECRET_VARIABLE" => variable,
                "VAULT" => "\n",
                "OAUTH_TOKEN_URL" => TOKEN_URL,
                _ => return None,
            };
            Some(value.to_owned())
        };

        let error = Config::from_vars("OAUTH_", vars).unwrap_err();

        assert!(error.to_string().contains("not set"), "{error}");
    }
}

#[tokio::test]
async fn an_api_key_is_trimmed() {
    let file = TempFile::with_content("api-key", "key\n\n");
    let keys = json!({"api_key_file": file.path(), "allowed_origins": "https://api.example.com"});
    let config: Config = serde_json::from_value(keys).unwrap();
    let events = Events::default();
    let seen = events.clone();
    let layer = config
        .layer()
        .unwrap()
        .on_event(move |event| seen.add(event));

    let key = layer.build().handle().token().await.unwrap();

    assert_eq!(key.expose(), Some("key"));
    assert_eq!(events.take(), ["API key"]);
}

#[tokio::test]
async fn nonstandard_settings_are_sent_and_reported_once() {
    let guid = "00000003-0000-0ff1-ce00-000000000000";
    let at_tenant = format!("{guid}/contoso.example@tenant");
    let server = Server::granting();
    let endpoint = server
        .endpoint(ClientAuth::post("id", "secret"))
        .resource(guid)
        .resource(at_tenant.clone())
        .scope("a\"b ü");
    endpoint.validate().unwrap();
    let (handle, events) = with_events(endpoint);

    handle.token().await.unwrap();
    handle.refresh_now().await.unwrap();

    let asked = server.last_request();
    assert_eq!(asked.form_values("resource"), [guid, &at_tenant]);
    assert_eq!(asked.form_value("scope"), Some("a\"b ü"));
    let events = events.take();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[0].starts_with("scope: RFC 6749 §3.3"), "{events:?}");
    assert!(events[1].starts_with("resource: RFC 8707 §2"), "{events:?}");
}

#[tokio::test]
async fn several_audiences_are_sent_with_a_token_exchange() {
    let exchange: Grant = TokenExchange::new("token", TokenExchange::JWT).into();
    for (grant, reported) in [(exchange, 0), (Grant::client_credentials(), 1)] {
        let server = Server::granting();
        let endpoint = server
            .endpoint(ClientAuth::post("id", "secret"))
            .grant(grant)
            .audience("a")
            .audience("b");
        let (handle, events) = with_events(endpoint);

        handle.token().await.unwrap();

        assert_eq!(server.last_request().form_values("audience"), ["a", "b"]);
        assert_eq!(events.take().len(), reported);
    }
    let keys = json!({
        "client_id": "id", "client_secret": "s", "token_url": TOKEN_URL, "audience": ["a b", "c"],
    });
    let config: Config = serde_json::from_value(keys).unwrap();
    let server = Server::granting();
    let (handle, _) = with_events(config.endpoint().unwrap().service(server.service()));
    handle.token().await.unwrap();
    assert_eq!(server.last_request().form_values("audience"), ["a b", "c"]);
}

#[tokio::test]
async fn headers_set_by_a_custom_method_are_sent() {
    struct Named;

    impl ClientAuthentication for Named {
        async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
            use http::{HeaderValue, header};
            request.header(header::USER_AGENT, HeaderValue::from_static("orders/2"));
            request.header(header::ACCEPT, HeaderValue::from_static("*/*"));
            Ok(())
        }
    }

    let server = Server::granting();
    let (handle, _) = with_events(server.endpoint(ClientAuth::custom(Named)));

    handle.token().await.unwrap();

    let headers = server.last_request().headers;
    assert_eq!(headers.get_all("user-agent").iter().count(), 1);
    assert_eq!(headers["user-agent"], "orders/2");
    assert_eq!(headers["accept"], "*/*");
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
}

/// What events say about settings.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl Events {
    fn add(&self, event: &TokenEvent<'_>) {
        let text = match event {
            TokenEvent::ValueTrimmed { setting, .. } => (*setting).to_owned(),
            TokenEvent::NonstandardSetting { setting, rule, .. } => format!("{setting}: {rule}"),
            _ => return,
        };
        self.0.lock().unwrap().push(text);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn with_events(endpoint: TokenEndpoint) -> (TokenHandle, Events) {
    let events = Events::default();
    let seen = events.clone();
    let layer = layer(endpoint).on_event(move |event| seen.add(event));
    (layer.build().handle(), events)
}
