//! What else a token answer holds, or lacks.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Response, StatusCode, header};
use tower::Layer;
use tower_m2m::{
    ClientCredentialsLayer,
    client_credentials::{NonConformance, TokenErrorKind as Kind},
};

use crate::{
    fetch::{assert_non_conformance, auth, error_response, fetch, fetch_http, with},
    support::{
        Body, get, origin, send,
        server::{Server, handle},
        serving, status_only,
    },
};

#[tokio::test(start_paused = true)]
async fn q08_members_of_keycloak() {
    let answer = r#"{"access_token":"t","expires_in":300,"refresh_expires_in":0,"refresh_token":"canary","token_type":"Bearer","not-before-policy":0,"session_state":"s","scope":"profile"}"#;

    let (outcome, non_conformances) = fetch(answer, |e| e.strict(true)).await;

    let token = outcome.unwrap();
    assert_eq!(token.lifetime(), Some(Duration::from_secs(300)));
    assert_eq!(token.scope(), Some("profile"));
    assert!(token.member("refresh_token").is_none());
    assert_eq!(non_conformances, []);
}

#[tokio::test(start_paused = true)]
async fn q09_no_token_type() {
    assert_non_conformance(
        r#"{"access_token":"t","expires_in":60}"#,
        NonConformance::NoTokenType,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn q10_token_type_is_case_insensitive() {
    for kind in ["bearer", "BEARER", "Bearer"] {
        let server = Server::serving(move |_| (200, with("token_type", &format!("\"{kind}\""))));
        let layer = ClientCredentialsLayer::builder(server.endpoint(auth()).strict(true), origin());
        let seen = Arc::new(Mutex::new(None));
        let log = Arc::clone(&seen);
        let (api, _) = serving(move |request| {
            *log.lock().unwrap() = request.headers().get(header::AUTHORIZATION).cloned();
            std::future::ready(status_only(StatusCode::OK))
        });

        send(&layer.build().layer(api), get("/")).await.unwrap();

        assert_eq!(seen.lock().unwrap().clone().unwrap(), "Bearer t");
    }
    let mac = error_response(200, &with("token_type", "\"mac\"")).await;
    assert_eq!(mac.kind(), Kind::InvalidResponse);
}

#[tokio::test(start_paused = true)]
async fn q11_scope_as_an_array() {
    let answer = r#"{"access_token":"t","token_type":"bearer","expires_in":60,"scope":["a","b"]}"#;

    let token = assert_non_conformance(answer, NonConformance::ScopeAsArray).await;

    assert_eq!(token.scope(), Some("a b"));
    assert_eq!(
        fetch(&with("scope", "null"), |e| e)
            .await
            .0
            .unwrap()
            .scope(),
        None
    );
}

#[tokio::test(start_paused = true)]
async fn q12_a_form_encoded_or_plain_text_response() {
    let answer = "access_token=t%2Bt&token_type=bearer&expires_in=120&scope=a+b";

    let token = assert_non_conformance(answer, NonConformance::FormEncoded).await;

    assert_eq!(token.expose(), Some("t+t"));
    assert_eq!(token.scope(), Some("a b"));
    assert_eq!(token.lifetime(), Some(Duration::from_secs(120)));
    let refused = error_response(200, "error=invalid_client").await;
    assert_eq!(refused.oauth_error(), Some("invalid_client"));
}

#[tokio::test(start_paused = true)]
async fn q30_extra_and_duplicate_members_and_very_long_tokens() {
    let long = "x".repeat(100_000);
    let answer = format!(
        r#"{{"access_token":"{long}","token_type":"Bearer","expires_in":60,"instance_url":"https://eu.example","id":"1","scope":"api","client_secret":"canary","nested":{{"id_token":"canary","a":[1,"eyJ.canary.x"]}},"id":"2"}}"#
    );
    let server = Server::serving(move |_| (200, answer.clone()));
    let handle = handle(server.endpoint(auth()));

    let token = handle.token().await.unwrap();

    assert_eq!(token.expose().map(str::len), Some(100_000));
    let status = handle.status();
    assert_eq!(status.member("instance_url").unwrap(), "https://eu.example");
    assert_eq!(status.member("id").unwrap(), "2");
    assert_eq!(status.scope(), Some("api"));
    assert!(status.member("client_secret").is_none());
    let nested = status.member("nested").unwrap().to_string();
    assert_eq!(nested, r#"{"a":[1]}"#);
    let twice = r#"{"access_token":"t","token_type":"Bearer","expires_in":60,"x":1,"x":2}"#;
    assert_non_conformance(twice, NonConformance::DuplicateMember).await;
}

#[tokio::test(start_paused = true)]
async fn strict_mode_accepts_what_the_rfc_allows() {
    let plain =
        r#"{"access_token":"t","token_type":"bearer","expires_in":60,"scope":"a b","extra":{}}"#;
    let without_lifetime = r#"{"access_token":"t","token_type":"Bearer"}"#;

    for answer in [plain, without_lifetime] {
        fetch(answer, |e| e.strict(true)).await.0.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_non_json_content_type_is_non_conforming() {
    let answer = || {
        let response = Response::builder().header(header::CONTENT_TYPE, "text/html");
        let body = r#"{"access_token":"t","token_type":"bearer","expires_in":60}"#;
        response.body(Body::from(body)).unwrap()
    };

    let (outcome, non_conformances) = fetch_http(answer(), |e| e).await;
    let (refused, _) = fetch_http(answer(), |e| e.strict(true)).await;

    outcome.unwrap();
    assert_eq!(non_conformances, [NonConformance::WrongContentType]);
    assert_eq!(refused.unwrap_err().kind(), Kind::InvalidResponse);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_token_type_error_names_the_setting() {
    for kind in ["BearerToken", "JWT", "token", ""] {
        let answer = with("token_type", &format!("\"{kind}\""));

        let refused = error_response(200, &answer).await;
        let (taken, _) = fetch(&answer, |e| {
            e.bearer_type("other").bearer_type(kind.to_lowercase())
        })
        .await;

        assert_eq!(refused.kind(), Kind::InvalidResponse);
        assert!(
            refused.to_string().contains("TokenEndpoint::bearer_type"),
            "{refused}"
        );
        assert_eq!(taken.unwrap().expose(), Some("t"));
    }
    // What is bound to a key does not become a bearer token by another name.
    for kind in ["DPoP", "mac"] {
        let refused = error_response(200, &with("token_type", &format!("\"{kind}\""))).await;
        assert!(!refused.to_string().contains("bearer_type"), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_error_member_beside_a_token_is_ignored() {
    for nothing in ["\"\"", "false", "null", "0"] {
        let token = fetch(&with("error", nothing), |e| e).await.0.unwrap();
        assert_eq!(token.expose(), Some("t"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_break_and_a_scheme_around_a_token_are_removed() {
    for token in ["t\\n", " t\\r\\n", "Bearer t", "bearer  t\\n"] {
        let answer =
            format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":60}}"#);

        let token = assert_non_conformance(&answer, NonConformance::DecoratedToken).await;

        assert_eq!(token.expose(), Some("t"));
    }
    for nothing in ["Bearer ", "\\n"] {
        let refused = error_response(200, &format!(r#"{{"access_token":"{nothing}"}}"#)).await;
        assert_eq!(refused.kind(), Kind::InvalidResponse, "{nothing}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_found_in_badly_encoded_text() {
    let good = |note: &[u8]| {
        let mut body =
            br#"{"access_token":"t","token_type":"Bearer","expires_in":60,"note":""#.to_vec();
        body.extend_from_slice(note);
        body.extend_from_slice(b"\"}");
        body
    };
    let utf_16 = |text: &[u8]| -> Vec<u8> {
        let text = String::from_utf8(text.to_vec()).unwrap();
        let units = std::iter::once(0xFEFF).chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect()
    };
    for (name, body) in [
        (
            "byte order mark",
            [&b"\xEF\xBB\xBF"[..], &good(b"")].concat(),
        ),
        ("Latin-1", good(b"gr\xFC\xDFe")),
        ("control characters", good(b"one\ntwo\x01")),
        ("half a surrogate pair", good(b"\\ud83d \\ude00")),
        ("NULs behind it", [&good(b"")[..], b"\0\0\r\n"].concat()),
        ("UTF-16", utf_16(&good(b""))),
    ] {
        let (outcome, non_conformances) =
            fetch_http(Response::new(Body::from(body.clone())), |e| e).await;
        let (strict, _) = fetch_http(Response::new(Body::from(body)), |e| e.strict(true)).await;

        assert_eq!(outcome.unwrap().expose(), Some("t"), "{name}");
        assert_eq!(non_conformances, [NonConformance::MisencodedText], "{name}");
        assert_eq!(strict.unwrap_err().kind(), Kind::InvalidResponse, "{name}");
    }
    // And the reason of a rejection.
    for body in [
        &b"\xEF\xBB\xBF{\"error\":\"invalid_client\"}"[..],
        b"{\"error\":\"invalid_client\",\"error_description\":\"ung\xFCltig\"}",
        b"{\"error\":\"invalid_client\",\"error_description\":\"two\nlines\"}\0",
    ] {
        let answer = Response::builder()
            .status(400)
            .body(Body::from(body.to_vec()));
        let refused = fetch_http(answer.unwrap(), |e| e).await.0.unwrap_err();
        assert_eq!(refused.oauth_error(), Some("invalid_client"));
        assert_eq!(refused.kind(), Kind::InvalidClient);
    }
}
