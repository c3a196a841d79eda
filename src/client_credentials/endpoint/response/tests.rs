//! Responses of real servers, and how they are read.

use std::time::SystemTime;

use http::HeaderValue;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::client_credentials::TokenErrorKind::{
    InvalidClient, InvalidResponse, InvalidScope, Rejected, Server, Throttled,
};
use crate::client_credentials::redact;

const SECRET: &str = "s3cr3t canary";

fn answer(
    status: u16,
    headers: &[(header::HeaderName, &'static str)],
    body: &[u8],
) -> Result<(AccessToken, Vec<NonConformance>), TokenError> {
    let cx = Context {
        wall: SystemTime::UNIX_EPOCH,
        default_lifetime: Duration::from_secs(60),
        strict: false,
        bearer_types: &[],
        binding: Binding::None,
        advice: None,
        secrets: &[SECRET.into()],
    };
    let status = StatusCode::from_u16(status).unwrap();
    let headers = headers.iter();
    let headers = headers.map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
    let (token, is_bound, non_conformances) = read(status, &headers.collect(), body, &cx)?;
    assert!(!is_bound);
    Ok((token, non_conformances))
}

/// A 200 response with `members` in addition to the required ones.
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
fn a_status_or_error_code_is_an_error_response() {
    for (status, body, kind, transient, says) in [
        (
            400,
            r#"{"error":"invalid_client"}"#,
            InvalidClient,
            false,
            "client id and secret, and",
        ),
        (
            400,
            r#"{"error":"invalid_scope"}"#,
            InvalidScope,
            false,
            "check the scope",
        ),
        (
            400,
            r#"{"error":"unauthorized_client"}"#,
            Rejected,
            false,
            "may not use this grant",
        ),
        (
            400,
            r#"{"error":"unsupported_grant_type"}"#,
            Rejected,
            false,
            "does not offer",
        ),
        (
            400,
            r#"{"error":"invalid_grant"}"#,
            Rejected,
            false,
            "subject token",
        ),
        (
            400,
            r#"{"error":"invalid_target"}"#,
            Rejected,
            false,
            "resource and audience",
        ),
        (
            400,
            r#"{"error":"invalid_request"}"#,
            Rejected,
            false,
            "check the parameters",
        ),
        (
            400,
            r#"{"error":"x_own_code"}"#,
            Rejected,
            false,
            "see the error code",
        ),
        (
            400,
            r#"{"error":{"code":7}}"#,
            Rejected,
            false,
            "see the error code",
        ),
        (
            400,
            r#"{"error":"server_error"}"#,
            Server,
            true,
            "failed with a server error",
        ),
        (
            400,
            r#"{"error":"temporarily_unavailable"}"#,
            Server,
            true,
            "failed with a server error",
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
            InvalidClient,
            false,
            "check the client id and secret",
        ),
        (404, "", Rejected, false, "check the token endpoint's URL"),
        (405, "", Rejected, false, "check the token endpoint's URL"),
        (
            403,
            "",
            InvalidClient,
            true,
            "rejected without a reason: check the client id and secret",
        ),
        (
            403,
            r#"{"error":"Forbidden"}"#,
            InvalidClient,
            true,
            "rejected without a reason",
        ),
        (403, " <html>", Rejected, true, "without an OAuth error"),
        (
            401,
            r#"{"error":"server_error","error_description":"access_denied"}"#,
            InvalidClient,
            false,
            "check the client id and secret",
        ),
        (
            401,
            r#"{"error":"unauthorized","error_description":"try again"}"#,
            InvalidClient,
            false,
            "check the client id and secret",
        ),
        (
            401,
            r#"{"error":"invalid_scope"}"#,
            InvalidScope,
            false,
            "check the scope",
        ),
        (
            401,
            r#"{"error":"temporarily_unavailable"}"#,
            Server,
            true,
            "failed with a server error",
        ),
        (
            400,
            r#"{"error":"invalid_client_id"}"#,
            InvalidClient,
            false,
            "check the client id and secret",
        ),
        (
            400,
            r#"{"error":"unknown_error","error_description":"retry your request"}"#,
            Server,
            true,
            "failed with a server error",
        ),
        (
            400,
            r#"{"error":"x_own_code","error_description":"A transient error has occurred."}"#,
            Server,
            true,
            "failed with a server error",
        ),
        (
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS90033: retry later"}"#,
            Server,
            true,
            "failed with a server error",
        ),
        (
            400,
            r#"{"error":"invalid_client","error_description":"wrong, try again"}"#,
            InvalidClient,
            false,
            "check the client id and secret",
        ),
        (
            404,
            r#"{"status":404,"error":"Not Found"}"#,
            Rejected,
            false,
            "check the token endpoint's URL",
        ),
        (
            400,
            "Client sent an HTTP request to an HTTPS server.\n",
            Rejected,
            false,
            "an https port",
        ),
        (
            400,
            "<html><title>400 The plain HTTP request was sent to HTTPS port</title>",
            Rejected,
            false,
            "an https port",
        ),
        (408, "", Rejected, true, "without an OAuth error"),
        (425, "", Rejected, true, "without an OAuth error"),
        (418, "", Rejected, false, "gives no reason"),
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
            "failed with a server error",
        ),
        (101, "", InvalidResponse, true, "returned no final response"),
        // Not a success.
        (
            200,
            r#"{"error":"invalid_client","access_token":"a"}"#,
            InvalidClient,
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
fn retry_after_on_an_error_means_throttled() {
    let wait = [(header::RETRY_AFTER, "7")];
    for (status, kind) in [(400, Throttled), (403, Throttled), (200, InvalidClient)] {
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
        (json!(false), None),
        (json!(0), None),
        (json!(" "), None),
        (json!([]), None),
        (json!("Bad Request"), None),
        (json!("not found."), None),
        (json!("401"), None),
    ] {
        let error = error(400, &[], &json!({ "error": code }).to_string());
        assert_eq!(error.oauth_error(), shown);
    }
    let long = json!({ "error": "no ".repeat(100) }).to_string();
    assert_eq!(error(400, &[], &long).oauth_error().map(str::len), Some(80));
}

#[test]
fn an_empty_error_beside_a_token_is_ignored() {
    for nothing in [json!(null), json!(""), json!(false), json!(0), json!({})] {
        assert!(
            token_with(&json!({ "error": nothing })).is_ok(),
            "{nothing}"
        );
    }
    for error in [json!(true), json!("Not Found"), json!("invalid_client")] {
        assert!(token_with(&json!({ "error": error })).is_err(), "{error}");
    }
}

#[test]
fn error_pages_of_frameworks_are_described() {
    for (body, description) in [
        (r#"{"error":"Not Found"}"#, "Not Found"),
        (r#"{"error":"Not Found","message":"no route"}"#, "no route"),
        (
            r#"{"error":{"code":400,"message":"bad audience"}}"#,
            "bad audience",
        ),
    ] {
        assert_eq!(error(404, &[], body).error_description(), Some(description));
    }
}

#[test]
fn a_response_that_repeats_its_token_is_parsed_in_linear_time() {
    let token = "a1".repeat(250_000);
    for (name, text) in [
        ("error_description", token.clone()),
        ("error_description", format!("{token} ")),
        ("error", token[..300_000].to_owned()),
        ("message", "a1 ".repeat(160_000)),
    ] {
        let body = json!({ "access_token": token, name: text }).to_string();
        assert!(body.len() > 700_000);

        let steps = redact::steps(|| {
            let error = error(400, &[], &body);
            let shown = format!("{error} {:?}", error.error_description());
            assert!(!shown.contains("a1a1") && shown.len() < 1_000, "{shown}");
        });

        assert!(steps < 1_000_000, "{steps}");
    }
}

#[test]
fn duplicate_members_are_reported_once() {
    let body = format!("{}access_token=token", "a=1&".repeat(100_000));

    let (_, non_conformances) = answer(200, &[], body.as_bytes()).unwrap();

    assert_eq!(non_conformances.len(), 4, "{non_conformances:?}");
}

#[test]
fn redirect_targets_are_shortened_and_redacted() {
    for (location, shown) in [
        (
            "https://login.example/oauth2/token?code=canary",
            "to https://login.example/oauth2/token, ",
        ),
        (
            "https://login.example/session/0123456789abcdef0123456789/x",
            "to https://login.example/session/[redacted]/x, ",
        ),
        ("/s3cr3t%20canary/x", "to [secret], "),
    ] {
        let error = error(302, &[(header::LOCATION, location)], "");
        assert!(error.to_string().contains(shown), "{error}");
    }
    for long in [
        format!("https://login.example/{}", "a/".repeat(30_000)),
        format!("https://{}/login", "a.".repeat(30_000)),
        format!("https://login.example/{}", "a".repeat(60_000)),
    ] {
        let error = error(307, &[(header::LOCATION, long.leak())], "");
        assert!(error.to_string().len() < 800, "{error}");
    }
}

#[test]
fn only_bearer_tokens_are_accepted() {
    for kind in [json!("Bearer"), json!(" bearer "), json!(null)] {
        assert!(token_with(&json!({ "token_type": kind })).is_ok(), "{kind}");
    }
    for (kind, says) in [
        (json!("mac"), r#"of type "mac""#),
        (json!("s3cr3t canary"), r#"of type "[secret]""#),
        (json!(""), r#"of type "", which"#),
        (json!(7), r#"of type "not a string""#),
        (json!(" n_a"), "issued token is not an access token"),
    ] {
        let error = token_with(&json!({ "token_type": kind })).unwrap_err();

        assert_eq!(error.kind(), InvalidResponse);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn an_answer_without_a_token_is_malformed() {
    for (token, says) in [
        (json!(null), "returned no access_token"),
        (json!(""), "returned no access_token"),
        (json!(" \t"), "returned no access_token"),
        (json!(7), "access_token that is not a string"),
    ] {
        let error = token_with(&json!({ "access_token": token })).unwrap_err();

        assert_eq!(error.kind(), InvalidResponse);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn refresh_in_of_zero_is_ignored() {
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
fn members_are_kept_except_secrets() {
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
