//! Configurations with secrets in the right and in the wrong places.

use serde_json::{Value, json};
use tower_m2m::client_credentials::Config;

use super::{
    endpoint::fail,
    output_log::{OutputLog, assert_log_is_clean, listen},
    search::{SECRETS, find_any},
};

const NUMBER: &str = "9182736450918273";

#[tokio::test(start_paused = true)]
async fn debug_output_of_a_configuration_shows_no_secrets() {
    listen();
    for secret in SECRETS {
        let witness = OutputLog::default();
        let file = json!({
            "client_id": "orders",
            "client_secret": secret,
            "token_url": "http://127.0.0.1:9/token",
            "parameters": { "password": secret },
            "allowed_origins": "https://api.example.com",
        });
        let config: Config = serde_json::from_value(file).unwrap();

        witness.debug(&config);
        witness.debug(&config.layer().unwrap());
        witness.error(&fail(config.endpoint().unwrap(), &witness).await);

        witness.assert_clean(secret);
    }
    assert_log_is_clean();
}

#[test]
fn configuration_errors_show_no_secrets() {
    for secret in SECRETS {
        let url = format!("https://user:{secret}@id.example/token?key={secret}");
        for (key, value) in [
            ("token_url", url.as_str()),
            ("allowed_origins", &url),
            ("assume_origin", &url),
            ("issuer", &url),
            ("client_secret_file", "file"),
            ("client_secret_variable", secret),
            ("client_auth", secret),
            ("header", secret),
            ("scheme", &format!("{secret}\n{secret}")),
            ("private_key_file", secret),
            ("signing_algorithm", secret),
            ("refresh_before", secret),
            ("authorization_details", secret),
            ("resource", secret),
        ] {
            let witness = OutputLog::default();
            let read = |name: &str| match name {
                name if name == key => Some(value.to_owned()),
                "client_id" => Some("orders".to_owned()),
                "client_secret" => Some(secret.to_owned()),
                "token_url" if key != "issuer" => Some("https://id.example/token".to_owned()),
                "allowed_origins" => Some("https://api.example.com".to_owned()),
                _ => None,
            };
            let lower = |name: &str| read(&name.to_ascii_lowercase());

            let outcome = Config::from_vars("", lower).and_then(|config| {
                witness.debug(&config);
                config.layer().map(|layer| witness.debug(&layer))
            });

            match outcome {
                Err(error) => {
                    witness.error(&error);
                    witness.text(error.key());
                }
                // Texts that only later rules forbid are sent.
                Ok(()) => assert!(matches!(key, "header" | "resource"), "{value:?} was taken"),
            }
            witness.assert_clean(&format!("{key} with {secret:?}"));
        }
    }
}

#[test]
fn a_secret_of_the_wrong_type_is_not_shown() {
    let number: Value = serde_json::from_str(NUMBER).unwrap();
    let float: Value = serde_json::from_str(&format!("0.{NUMBER}")).unwrap();
    for value in [
        number.clone(),
        float,
        json!([NUMBER]),
        json!({ "value": NUMBER }),
    ] {
        for file in [
            json!({ "client_id": "orders", "client_secret": value }),
            json!({ "client_id": "orders", "parameters": { "password": value } }),
        ] {
            for error in [
                serde_json::from_value::<Config>(file.clone()).unwrap_err(),
                serde_json::from_str::<Config>(&file.to_string()).unwrap_err(),
            ] {
                let text = format!("{error} {error:?}");

                assert_eq!(find_any(&text, [NUMBER].into_iter()), None, "{text}");
            }
        }
    }
}

#[test]
fn a_secret_in_place_of_the_table_is_not_shown() {
    let texts = [
        NUMBER.to_owned(),
        format!("-{NUMBER}"),
        format!("0.{NUMBER}"),
    ];
    let texts = texts.into_iter().chain([format!("\"{NUMBER}\"")]);
    for text in texts.chain([format!("[\"{NUMBER}\"]")]) {
        let value: Value = serde_json::from_str(&text).unwrap();
        let toml = toml::from_str::<std::collections::BTreeMap<String, Config>>;
        for error in [
            serde_json::from_str::<Config>(&text)
                .unwrap_err()
                .to_string(),
            serde_json::from_value::<Config>(value)
                .unwrap_err()
                .to_string(),
            toml(&format!("orders = {text}"))
                .unwrap_err()
                .message()
                .to_owned(),
        ] {
            assert!(error.contains("expected a table of keys"), "{error}");
            assert_eq!(find_any(&error, [NUMBER].into_iter()), None, "{error}");
        }
    }
}
