//! Answers as they come, and what they are taken for.

use std::time::SystemTime;

use http::HeaderValue;
use serde_json::json;

use super::*;
use crate::client_credentials::TokenErrorKind::{
    CredentialsRefused, Malformed, Refused, ScopeRefused, Server, Throttled, UnsupportedTokenType,
};

const SECRET: &str = "s3cr3t canary";

fn answer(
    status: u16,
    headers: &[(header::HeaderName, &'static str)],
    body: &[u8],
) -> Result<(AccessToken, Vec<Quirk>), TokenError> {
    let cx = Context {
        wall: SystemTime::UNIX_EPOCH,
        default_lifetime: Duration::from_secs(60),
        strict: false,
        advice: None,
        secrets: &[SECRET.into()],
    };
    let status = StatusCode::from_u16(status).unwrap();
    let headers = headers.iter();
    let headers = headers.map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
    read(status, &headers.collect(), body, &cx)
}

/// The answer 200 with `members` besides what is needed.
fn token_with(members: &Value) -> Result<AccessToken, TokenError> {
    let mut body = json!({ "access_token": "token", "token_type": "Bearer", "expires_in": 300 });
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    let (token, _) = answer(200, &[], body.to_string().as_bytes())?;
    Ok(token)
}

fn error(status: u16, headers: &[(header::HeaderName, &'static str)], body: &str) -> TokenError {
    answer(status, headers, body.as_bytes()).unwrap_err()
}

#[test]
fn a_status_or_an_error_code_is_a_refusal() {
    for (status, body, kind, transient, says) in [
        (
            400,
            r#"{"error":"invalid_client"}"#,
            CredentialsRefused,
            false,
            "client id and secret, and",
        ),
        (
            400,
            r#"{"error":"invalid_scope"}"#,
            ScopeRefused,
            false,
            "check the scope",
        ),
        (
            400,
            r#"{"error":"unauthorized_client"}"#,
            Refused,
            false,
            "may not use this grant",
        ),
        (
            400,
            r#"{"error":"unsupported_grant_type"}"#,
            Refused,
            false,
            "does not offer",
        ),
        (
            400,
            r#"{"error":"invalid_grant"}"#,
            Refused,
            false,
            "subject token",
        ),
        (
            400,
            r#"{"error":"invalid_target"}"#,
            Refused,
            false,
            "resource and audience",
        ),
        (
            400,
            r#"{"error":"invalid_request"}"#,
            Refused,
            false,
            "check the parameters",
        ),
        (
            400,
            r#"{"error":"x_own_code"}"#,
            Refused,
            false,
            "see the error code",
        ),
        (
            400,
            r#"{"error":{"code":7}}"#,
            Refused,
            false,
            "see the error code",
        ),
        (
            400,
            r#"{"error":"server_error"}"#,
            Server,
            true,
            "failed at the server",
        ),
        (
            400,
            r#"{"error":"temporarily_unavailable"}"#,
            Server,
            true,
            "failed at the server",
        ),
        (
            400,
            r#"{"error":"slow_down"}"#,
            Throttled,
            true,
            "throttled",
        ),
        (
            400,
            r#"{"message":"Too many requests"}"#,
            Throttled,
            true,
            "throttled",
        ),
        (
            401,
            "",
            CredentialsRefused,
            false,
            "check the client id and secret",
        ),
        (404, "", Refused, false, "check the token endpoint's URL"),
        (405, "", Refused, false, "check the token endpoint's URL"),
        (403, "", Refused, true, "without an OAuth error"),
        (408, "", Refused, true, "without an OAuth error"),
        (425, "", Refused, true, "without an OAuth error"),
        (418, "", Refused, false, "gives no reason"),
        (
            429,
            r#"{"error":"invalid_client"}"#,
            Throttled,
            true,
            "throttled",
        ),
        (
            500,
            r#"{"error":"invalid_client"}"#,
            Server,
            true,
            "failed at the server",
        ),
        (101, "", Malformed, true, "was not answered"),
        // A success is none.
        (
            200,
            r#"{"error":"invalid_client","access_token":"a"}"#,
            CredentialsRefused,
            false,
            "client id",
        ),
    ] {
        let error = error(status, &[], body);

        assert_eq!(error.kind(), kind, "{status} {body}");
        assert_eq!(error.is_transient(), transient, "{status} {body}");
        assert!(error.to_string().contains(says), "{status} {body}: {error}");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
    }
}

#[test]
fn who_is_asked_to_wait_was_throttled_unless_the_answer_is_a_success() {
    let wait = [(header::RETRY_AFTER, "7")];
    for (status, kind) in [
        (400, Throttled),
        (403, Throttled),
        (200, CredentialsRefused),
    ] {
        let error = error(status, &wait, r#"{"error":"invalid_client"}"#);

        assert_eq!(error.kind(), kind, "{status}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }
}

#[test]
fn error_codes_are_quoted_without_secrets() {
    for (code, shown) in [
        (json!("invalid_grant"), Some("invalid_grant")),
        (json!("own_code"), Some("own_code")),
        (json!("own \n code"), Some("own code")),
        (json!("not s3cr3t canary"), Some("not [secret]")),
        (json!(true), Some("unknown_error")),
        (json!(null), None),
    ] {
        let error = error(400, &[], &json!({ "error": code }).to_string());
        assert_eq!(error.oauth_error(), shown);
    }
    let long = json!({ "error": "no ".repeat(100) }).to_string();
    assert_eq!(error(400, &[], &long).oauth_error().map(str::len), Some(80));
}

#[test]
fn an_error_that_is_null_is_none() {
    assert!(token_with(&json!({ "error": null })).is_ok());
}

#[test]
fn only_bearer_tokens_are_taken() {
    for kind in [json!("Bearer"), json!(" bearer "), json!(null)] {
        assert!(token_with(&json!({ "token_type": kind })).is_ok(), "{kind}");
    }
    for (kind, says) in [
        (json!("mac"), r#"of type "mac""#),
        (json!("s3cr3t canary"), r#"of type "[secret]""#),
        (json!(7), r#"of type "not a string""#),
        (json!(" n_a"), "issued is no access token"),
    ] {
        let error = token_with(&json!({ "token_type": kind })).unwrap_err();

        assert_eq!(error.kind(), UnsupportedTokenType);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn an_answer_without_a_token_is_malformed() {
    for (token, says) in [
        (json!(null), "without an access_token"),
        (json!(""), "without an access_token"),
        (json!(" \t"), "without an access_token"),
        (json!(7), "access_token that is no string"),
    ] {
        let error = token_with(&json!({ "access_token": token })).unwrap_err();

        assert_eq!(error.kind(), Malformed);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_renewal_that_is_due_at_once_is_not_believed() {
    for (due, expected) in [
        (json!(0), None),
        (json!(-1), None),
        (json!("x"), None),
        (json!("150"), Some(Duration::from_secs(150))),
        (json!(0.5), Some(Duration::from_millis(500))),
    ] {
        let token = token_with(&json!({ "refresh_in": due })).unwrap();
        assert_eq!(token.refresh_in(), expected, "{due}");
    }
}

#[test]
fn members_are_kept_but_for_secrets() {
    let token = token_with(&json!({
        "instance_url": "https://a.b.example",
        "note": "eyJust.words",
        "jwt": "eyJh.eyJi.c",
        "refresh_token": "canary",
        "inner": { "client_secret": "canary", "list": ["eyJh.eyJi.c", "kept"] },
    }))
    .unwrap();

    assert_eq!(
        token.member("instance_url"),
        Some(&json!("https://a.b.example"))
    );
    assert_eq!(token.member("note"), Some(&json!("eyJust.words")));
    assert_eq!(token.member("inner"), Some(&json!({ "list": ["kept"] })));
    for secret in ["jwt", "refresh_token", "access_token"] {
        assert_eq!(token.member(secret), None, "{secret}");
    }
}
