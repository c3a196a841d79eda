use http::HeaderValue;
use proptest::{option, prelude::*};

use super::{Verdict::*, *};
use crate::steps;

#[test]
fn a_401_without_a_challenge_rejects_the_token() {
    for (lines, expected) in [
        (&[][..], TokenRejected),
        (&["Bearer"], TokenRejected),
        (&[r#"bearer realm="api""#], TokenRejected),
        (&[r#"Bearer error="invalid_token""#], TokenRejected),
        (&["Bearer error=expired"], TokenRejected),
        (
            &[r#"Bearer error="insufficient_scope", scope="a b""#],
            Unrelated,
        ),
        (
            &[r#"BEARER realm="a" , Error = "invalid_request""#],
            Unrelated,
        ),
        (&[r#"Basic realm="api""#], OtherScheme),
        (&["Negotiate"], OtherScheme),
        (&["Negotiate YWJj==, NTLM"], OtherScheme),
        (
            &[r#"DPoP algs="ES256", error="invalid_token""#],
            OtherScheme,
        ),
        (&["Basic realm=api, Bearer"], TokenRejected),
        (&["Basic realm=api", "Bearer"], TokenRejected),
        // A parameter belongs to a challenge of its own line.
        (&["Bearer", "error=insufficient_scope"], TokenRejected),
        (&["Negotiate, Bearer error=insufficient_scope"], Unrelated),
        (&["Bearer error=insufficient_scope, Bearer"], TokenRejected),
        (&[r#"Basic realm="a, Bearer error=b""#], OtherScheme),
        (&[r#"Basic realm="\", Bearer ""#], OtherScheme),
        (&[", ,Bearer,, error=insufficient_scope,"], Unrelated),
        (
            &[r#"Bearer realm="a" error="insufficient_scope""#],
            Unrelated,
        ),
        (&[r#"Bearer error="insufficient_scope"#], Unrelated),
        // Nothing that can be made sense of.
        (&[""], TokenRejected),
        (&[r#"error="insufficient_scope""#], TokenRejected),
        (&[r#"realm="api""#], TokenRejected),
        (&["Unauthorized"], TokenRejected),
        (&["Access denied"], TokenRejected),
        (&["Bearer token expired"], TokenRejected),
        (&[r#"="", "Basic", @, Basic="#], TokenRejected),
    ] {
        let headers = headers(lines);

        assert_eq!(verdict(&headers, Some("Bearer")), expected, "{lines:?}");
        assert_eq!(verdict(&headers, None), TokenRejected, "{lines:?}");
    }
}

#[test]
fn only_a_dpop_challenge_rejects_a_proof() {
    for (lines, expected) in [
        (&[r#"DPoP error="use_dpop_nonce", algs="ES256""#][..], true),
        (&[r#"dpop error="invalid_dpop_proof""#], true),
        (&["Bearer", "DPoP error=use_dpop_nonce"], true),
        (&[], false),
        (&["DPoP"], false),
        (&[r#"DPoP error="invalid_token""#], false),
        (&["Bearer error=use_dpop_nonce"], false),
        (
            &["Bearer error=use_dpop_nonce, DPoP error=invalid_token"],
            false,
        ),
    ] {
        assert_eq!(rejects_proof(&headers(lines)), expected, "{lines:?}");
    }
}

#[test]
fn scopes_are_read_from_a_challenge_of_the_scheme_of_the_token() {
    for (line, expected) in [
        (
            r#"Bearer error="insufficient_scope", scope="a b""#,
            Some("a b"),
        ),
        (
            "Bearer, bearer error=insufficient_scope, scope=a",
            Some("a"),
        ),
        ("Bearer error=insufficient_scope", None),
        ("Bearer error=invalid_token, scope=a", None),
        ("DPoP error=insufficient_scope, scope=a", None),
        ("", None),
    ] {
        let headers = headers(&[line]);

        let found = insufficient_scope(&headers, Some("Bearer"));
        assert_eq!(found.as_deref(), expected, "{line}");
        assert_eq!(insufficient_scope(&headers, None), None, "{line}");
    }
}

#[test]
fn challenge_text_is_sanitized() {
    let line = format!(
        "Bearer realm=\"a\tb\\\"\\\\c\u{e9}\", error={}",
        "x".repeat(300)
    );
    let found = &challenges(&headers(&[&line]), None)[0];

    assert_eq!(found.scheme(), "Bearer");
    assert_eq!(found.realm(), Some("abc"));
    assert_eq!(found.error().map(str::len), Some(200));
}

#[test]
fn a_token_that_the_api_echoes_is_redacted() {
    let line = "Bearer error=\"invalid_token\", scope=\"https://graph.example/0123/read\", \
                error_description=\"token 'eyJhbGciOiJIUzI1NiJ9.abc123' has expired\"";
    let found = &challenges(&headers(&[line]), None)[0];

    assert_eq!(
        found.error_description(),
        Some("token [redacted] has expired")
    );
    assert_eq!(found.scope(), Some("https://graph.example/0123/read"));
}

#[test]
fn invalid_parameters_are_skipped() {
    for (line, schemes) in [
        (
            "Negotiate YII-_/+abc==, Bearer a=b",
            &["Negotiate", "Bearer"][..],
        ),
        ("Negotiate YIIabc, Bearer a=b", &["Negotiate", "Bearer"]),
        ("@\"a, Basic x\", Bearer a=b", &["Bearer"]),
        ("@, Bearer a=b", &["Bearer"]),
    ] {
        let found = challenges(&headers(&[line]), None);
        let found: Vec<_> = found.iter().map(Challenge::scheme).collect();
        assert_eq!(found, schemes, "{line}");
    }
}

#[test]
fn the_number_of_challenges_is_bounded() {
    assert_eq!(challenges(&headers(&[&"a,".repeat(1000)]), None).len(), 32);
}

#[test]
fn long_lines_are_truncated_between_words() {
    let token = "abcdefghijklmnop";
    for padding in 0..60 {
        let (more, words) = ("y".repeat(padding), "x ".repeat(4_070));
        let line = format!("Bearer realm=\"{more}{words}\", error=\"{token}\"");

        let found = challenges(&headers(&[&line]), Some(token));

        assert_eq!(found[0].realm().map(str::len), Some(200));
        let error = found[0].error();
        assert!(
            matches!(error, None | Some("" | "[secret]")),
            "{padding}: {error:?}"
        );
    }
    let lines = ["Bearer"; 100];
    assert_eq!(challenges(&headers(&lines), None).len(), 32);
}

proptest! {
    #[test]
    fn parsing_takes_linear_time(
        piece in r#"((Bearer|Basic|error|a|=|,|"| |\\\\|\t)){1,4}"#,
        length in 200..4_000_usize,
    ) {
        let work = |length: usize| {
            let line: String = piece.chars().cycle().take(length).collect();
            let headers = headers(&[&line]);
            steps::steps_of(|| drop(challenges(&headers, None)))
        };

        let (once, twice) = (work(length), work(2 * length));

        prop_assert!(twice <= 3 * once + 1_000, "{} and then {}", once, twice);
        prop_assert!(work(300_000) <= 40 * 8_192);
    }

    #[test]
    fn no_value_panics(values in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
        let mut headers = HeaderMap::new();
        for value in values.iter().flat_map(|value| HeaderValue::from_bytes(value)) {
            headers.append(WWW_AUTHENTICATE, value);
        }

        verdict(&headers, Some("Bearer"));
    }

    #[test]
    fn almost_valid_challenges_do_not_panic(value in r#"((Bearer|Basic|error|a|=|,|"| |\\\\|\t)){0,30}"#) {
        verdict(&headers(&[&value]), Some("Bearer"));
    }

    #[test]
    fn printed_challenges_parse_back(expected in prop::collection::vec(challenge(), 1..5), lines in any::<bool>()) {
        let printed: Vec<_> = expected.iter().map(print).collect();
        let printed = if lines { printed } else { vec![printed.join(", ")] };
        let values: Vec<_> = printed.iter().map(String::as_str).collect();

        let found = challenges(&headers(&values), None);

        prop_assert_eq!(found, expected);
    }
}

fn challenge() -> impl Strategy<Value = Challenge> {
    let text = || option::of("[ -!#-\\[\\]-~]{0,19}");
    let parts = (
        "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}",
        text(),
        text(),
        text(),
        text(),
        option::of("[!#-\\[\\]-~]{0,19}"),
    );
    parts.prop_map(
        |(scheme, realm, error, error_description, scope, resource_metadata)| Challenge {
            has_parameters: [
                &realm,
                &error,
                &error_description,
                &scope,
                &resource_metadata,
            ]
            .iter()
            .any(|text| text.is_some()),
            scheme,
            realm,
            error,
            error_description,
            scope,
            resource_metadata,
        },
    )
}

/// Every second character is escaped, which changes nothing.
fn print(challenge: &Challenge) -> String {
    let parameters = [
        ("realm", &challenge.realm),
        ("ERROR", &challenge.error),
        ("error_description", &challenge.error_description),
        ("Scope", &challenge.scope),
        ("resource_metadata", &challenge.resource_metadata),
    ];
    let parameters = parameters.iter().filter_map(|(name, value)| {
        let escaped = value.as_ref()?.chars().enumerate().flat_map(|(at, c)| {
            let escape = (at % 2 == 0).then_some('\\');
            escape.into_iter().chain([c])
        });
        Some(format!("{name}=\"{}\"", escaped.collect::<String>()))
    });
    format!(
        "{} {}",
        challenge.scheme,
        parameters.collect::<Vec<_>>().join(", ")
    )
}

fn headers(lines: &[&str]) -> HeaderMap {
    let value = |line: &&str| HeaderValue::from_bytes(line.as_bytes()).unwrap();
    lines
        .iter()
        .map(|line| (WWW_AUTHENTICATE, value(line)))
        .collect()
}

#[test]
fn a_metadata_url_is_kept_whole_or_not_at_all() {
    let url = "https://api.example/.well-known/oauth-protected-resource/9f8a7b6c5d4e3f2a1b0c";
    let found = |url: &str| {
        let headers = headers(&[&format!("Bearer resource_metadata=\"{url}\"")]);
        let found = challenges(&headers, None);
        found[0].resource_metadata().map(str::to_owned)
    };

    assert_eq!(found(url).as_deref(), Some(url));
    for other in [
        format!("{url}/{}", "a".repeat(200)),
        format!("{url}/ä"),
        format!("{url}/ a"),
        format!("{url}/\\\\a"),
    ] {
        assert_eq!(found(&other), None, "{other}");
    }
}

#[test]
fn a_scope_is_kept_whole_or_not_at_all() {
    let scope = |text: &str| {
        let headers = headers(&[&format!("Bearer scope=\"{text}\"")]);
        let found = challenges(&headers, None);
        found[0].scope().map(str::to_owned)
    };
    let fits = format!("{} {}", "a".repeat(999), "b".repeat(1000));

    assert_eq!(scope(&fits).as_deref(), Some(&*fits));
    assert_eq!(scope(&format!("{fits}b")), Some("a".repeat(999)));
    assert_eq!(scope(&format!("{fits} c")), Some(fits));
    assert_eq!(scope(&"a".repeat(2001)).as_deref(), Some(""));
}

#[test]
fn a_token_with_a_comma_is_redacted_as_a_whole() {
    let headers = headers(&["Bearer error=ab,cdef"]);

    assert_eq!(
        challenges(&headers, Some("ab,cdef"))[0].error(),
        Some("[secret]")
    );
    assert_eq!(challenges(&headers, None)[0].error(), Some("ab"));
}
