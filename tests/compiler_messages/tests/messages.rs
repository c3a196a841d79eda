//! What the compiler says about each program in `examples`.
//!
//! Only the texts of this crate are compared: the rest of a message changes with the compiler.

use std::process::Command;

/// Compiles an example, which must fail with `code`, and returns what the compiler says.
fn rejected(example: &str, code: &str) -> String {
    let check = Command::new(env!("CARGO"))
        .args([
            "check",
            "--quiet",
            "--features",
            "compile-fail",
            "--example",
            example,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TERM_COLOR", "never")
        .output()
        .unwrap();
    let messages = String::from_utf8(check.stderr).unwrap();
    assert!(!check.status.success(), "{example} compiles");
    assert!(messages.contains(&format!("error[{code}]")), "{messages}");
    messages
}

fn assert_all(messages: &str, expected: &[&str]) {
    for text in expected {
        assert!(
            messages.contains(text),
            "{text:?} is missing in:\n{messages}"
        );
    }
}

#[test]
fn the_sources_of_tokens_are_named_where_another_type_is_passed() {
    let messages = rejected("not_a_source", "E0277");

    assert_all(
        &messages,
        &[
            "`&str` is not a source of tokens",
            "expected a `TokenEndpoint`, an `AccessToken` or your own `TokenSource`",
            "pass `TokenEndpoint::new(url, auth)`, or use `Config::from_env()?.layer()?`",
            "pass `AccessToken::new(value)`",
            "`BoxTokenSource::new(..)`",
        ],
    );
}

#[test]
fn a_service_that_is_not_clone_is_named_where_the_layer_is_applied() {
    let messages = rejected("not_clone", "E0277");

    assert_all(
        &messages,
        &[
            "is not `Clone`, so the layers of tower-m2m cannot send a request on it again",
            "this service is not `Clone`",
            "instead of `BoxService`, use `BoxCloneSyncService` or `BoxCloneService`",
            "add `tower::buffer::BufferLayer` directly below the layers of tower-m2m",
        ],
    );
}

#[test]
fn all_layers_have_the_same_message() {
    let messages = rejected("not_clone_credentials", "E0277");

    let text = "error[E0277]: `MyClient` is not `Clone`, so the layers of tower-m2m";
    assert_eq!(messages.matches(text).count(), 3, "{messages}");
}
