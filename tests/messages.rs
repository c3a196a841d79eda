//! The guide `messages` and the texts of the errors: what it explains is what is said, and nothing that is said is missing.

use std::{collections::BTreeSet, fs, path::Path};

use tower_m2m::{
    BoxError, ClientCredentialsLayer, Origin, RateLimitRetryLayer,
    client_credentials::AccessToken,
    tenants::{CredentialId, TenantError},
};

const GUIDE: &str = include_str!("../src/docs/messages.md");

#[test]
fn every_message_in_the_guide_is_in_the_source() {
    let said = messages_in();
    let mut count = 0;
    for row in rows() {
        let [.., message, _] = &row[..] else {
            panic!("{row:?}")
        };
        if message.is_empty() {
            continue;
        }
        let known = said.iter().any(|text| text.contains(message.as_str()));
        assert!(known, "nobody says {message:?}");
        count += 1;
    }
    assert!(count > 40, "{count}");
}

#[test]
fn every_not_sent_message_is_in_the_guide() {
    let explained: Vec<_> = rows().into_iter().filter(|row| row.len() == 2).collect();
    let mut count = 0;
    for text in messages_in() {
        let is_one = ["request not sent", "request body "];
        if !is_one.iter().any(|start| text.starts_with(start)) {
            continue;
        }
        let known = explained.iter().any(|row| text.contains(&row[0]));
        assert!(known, "not explained: {text:?}");
        count += 1;
    }
    assert!(count > 12, "{count}");
}

#[test]
fn every_token_error_kind_is_in_the_guide() {
    let kinds = fs::read_to_string(source("client_credentials/error/kind.rs")).unwrap();
    let kinds = kinds.split("=> \"").skip(1);
    let kinds: BTreeSet<_> = kinds
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    let rows = rows().into_iter().filter(|row| row.len() == 3);
    let explained: BTreeSet<_> = rows.map(|row| row[0].clone()).collect();

    assert_eq!(kinds, explained);
}

#[test]
fn run_time_messages_are_in_the_guide() {
    let elsewhere = "https://elsewhere.example/";
    let errors: [BoxError; 6] = [
        while_held(),
        rejected(elsewhere),
        rejected("/path/only"),
        "nothing".parse::<Origin>().unwrap_err().into(),
        TenantError::MissingId.into(),
        TenantError::Unknown(CredentialId::new("acme")).into(),
    ];
    for error in errors {
        let text = error.to_string();
        let quoted = GUIDE.split('`').filter(|quoted| quoted.len() > 15);
        let rows = rows().into_iter().map(|row| row[0].clone());
        let mut known = rows.chain(quoted.map(str::to_owned));
        assert!(
            known.any(|known| known.len() > 15 && text.contains(&known)),
            "{text}"
        );
        // So it is printed by a `main` that returns it.
        let debug = format!("{error:?}");
        assert!(debug.contains(&text), "{debug}");
    }
}

/// What a request gets while its partition is held for long.
fn while_held() -> BoxError {
    use tower::{Layer, ServiceExt, service_fn};
    let inner = service_fn(async |_: http::Request<String>| {
        Ok::<_, BoxError>(http::Response::new(String::new()))
    });
    let limits = RateLimitRetryLayer::new();
    let partition = "https://api.example".into();
    limits
        .handle()
        .pause(&partition, std::time::Duration::from_secs(1_000));
    let request = http::Request::get("https://api.example/")
        .body(String::new())
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    runtime
        .block_on(limits.layer(inner).oneshot(request))
        .unwrap_err()
}

/// The error of a request for `uri`.
fn rejected(uri: &str) -> BoxError {
    use tower::{Layer, ServiceExt, service_fn};
    let origin = "https://api.example".parse().unwrap();
    let credentials = ClientCredentialsLayer::builder(AccessToken::new("token"), origin).build();
    let inner = service_fn(async |_: http::Request<String>| {
        Ok::<_, BoxError>(http::Response::new(String::new()))
    });
    let service = RateLimitRetryLayer::new().layer(credentials.layer(inner));
    let request = http::Request::get(uri).body(String::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    runtime.block_on(service.oneshot(request)).unwrap_err()
}

/// The cells of the tables, without backticks.
fn rows() -> Vec<Vec<String>> {
    let rows = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = rows.map(|row| {
        let cells = row.split(" | ").map(|cell| {
            let cell = cell.trim().trim_start_matches("| ");
            match cell
                .strip_prefix("``")
                .and_then(|cell| cell.strip_suffix("``"))
            {
                Some(cell) => cell.to_owned(),
                None => cell.trim_matches('`').to_owned(),
            }
        });
        cells.collect::<Vec<_>>()
    });
    cells
        .filter(|row| !["message", "error"].contains(&&*row[0]))
        .collect()
}

/// All string literals of the library, on one line each.
fn messages_in() -> BTreeSet<String> {
    let mut said = BTreeSet::new();
    let mut folders = vec![source("")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(path).unwrap();
                said.extend(literals(&text));
            }
        }
    }
    said
}

/// The string literals of a file, but those in comments and attributes.
fn literals(source: &str) -> Vec<String> {
    let code = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n").replace("\\\"", "'");
    let literals = code.split('"').skip(1).step_by(2);
    let joined = |literal: &str| {
        let lines = literal.split("\\\n").map(str::trim_start);
        lines.collect::<String>()
    };
    literals.map(joined).collect()
}

fn source(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)
}
