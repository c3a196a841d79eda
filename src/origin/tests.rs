use super::*;

#[test]
fn origins_are_printed_in_canonical_form() {
    for (text, printed) in [
        ("https://api.example.com", "https://api.example.com"),
        ("HTTPS://API.Example.com:443/", "https://api.example.com"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://localhost:80", "http://localhost"),
        ("http://my_service:443", "http://my_service:443"),
        ("https://[2001:DB8:0:0::1]:444", "https://[2001:db8::1]:444"),
    ] {
        assert_eq!(text.parse::<Origin>().unwrap().to_string(), printed);
    }
}

#[test]
fn invalid_origins_are_rejected_with_a_reason() {
    for (text, problem) in [
        ("", "it has no scheme"),
        ("api.example.com", "it has no scheme"),
        ("ftp://a", "its scheme is neither https nor http"),
        (" https://a", "its scheme is neither https nor http"),
        ("https://", "it has no host"),
        ("https://:443", "it has no host"),
        ("https://me@a", "it has user information"),
        ("https://a/v1", "it has a path"),
        ("https://a?q", "it has a query"),
        ("https://a/#x", "it has a fragment"),
        ("https://a:", "its port is not a number from 1 to 65535"),
        ("https://a:0", "its port is not a number from 1 to 65535"),
        ("https://a:+443", "its port is not a number from 1 to 65535"),
        ("https://a\n", "its host is malformed"),
        ("https://[::1", "its host is malformed"),
        ("https://[::1]443", "its host is malformed"),
        ("https://a%2eb", "its host is malformed"),
    ] {
        let error = text.parse::<Origin>().unwrap_err();

        assert_eq!(error.problem(), problem, "{text}");
    }
}

#[test]
fn errors_quote_the_value_without_secrets() {
    for (text, shown) in [
        ("https://a/v1", r#""https://a/v1""#),
        ("https://a\n", r#""https://a\n""#),
        ("me:word@a", r#""...@a""#),
        ("me:word@x://a", r#""...@x://a""#),
        (
            "https://me:pa/ss?word@a/v1?q=1",
            r#""https://...@a/v1?...""#,
        ),
        ("https://a#secret", r#""https://a#...""#),
    ] {
        let error = text.parse::<Origin>().unwrap_err().to_string();

        assert!(error.starts_with(&format!("{shown} is not an")), "{error}");
    }
}

#[test]
fn a_uri_matches_an_origin_by_scheme_host_and_port() {
    let origin: Origin = "https://api.example.com".parse().unwrap();
    for (uri, matches) in [
        ("https://api.example.com/v1?q=1", true),
        ("https://API.example.COM:443/", true),
        ("http://api.example.com/", false),
        ("http://api.example.com:443/", false),
        ("https://api.example.com:8443/", false),
        ("https://api.example.com./", false),
        ("https://api.example.com.evil.example/", false),
        ("https://example.com/", false),
        ("https://me@api.example.com/", false),
        ("https://api.example.com@evil.example/", false),
        ("https://api.example.com:/", false),
        ("https://api.example.com:00443/", false),
        ("https://api.example.com:+443/", false),
        ("https://api.example.com:65979/", false),
        ("https://api%2eexample.com/", false),
        ("/v1", false),
        ("*", false),
        ("api.example.com:443", false),
    ] {
        // `http` itself rejects some of these.
        let Ok(uri) = uri.parse::<Uri>() else {
            continue;
        };

        assert_eq!(origin.matches(&uri), matches, "{uri}");
        assert_eq!(Origin::of(&uri) == Some(origin.clone()), matches, "{uri}");
    }
}

#[test]
fn a_host_header_may_omit_the_default_port() {
    let origin: Origin = "https://api.example.com".parse().unwrap();
    for (value, matches) in [
        (&b"api.example.com"[..], true),
        (b"API.example.com:443", true),
        (b"api.example.com:80", false),
        (b"api.example.com:", false),
        (b"api.example.com.", false),
        (b"me@api.example.com", false),
        (b"api.example.com/", false),
        (b"api.example.com\xff", false),
        (b"", false),
    ] {
        assert_eq!(
            origin.matches_authority(value),
            matches,
            "{}",
            value.escape_ascii()
        );
    }
    let origin: Origin = "https://api.example.com:8443".parse().unwrap();
    assert!(origin.matches_authority(b"api.example.com:8443"));
    assert!(!origin.matches_authority(b"api.example.com"));
}

#[test]
fn ipv6_addresses_compare_in_canonical_form() {
    let origin: Origin = "https://[2001:db8::1]".parse().unwrap();

    assert!(origin.matches(&Uri::from_static("https://[2001:DB8:0::0:1]:443/")));
    assert!(origin.matches_authority(b"[2001:db8::1]"));
    assert!(!origin.matches_authority(b"[2001:db8::2]"));
    assert!(!origin.matches_authority(b"2001:db8::1"));
}

#[test]
fn only_local_addresses_are_loopback() {
    for (text, loopback) in [
        ("http://localhost:8080", true),
        ("http://127.0.0.1", true),
        ("http://127.8.9.1", true),
        ("http://[0:0::1]", true),
        ("http://issuer.localhost:8080", true),
        ("http://a.b.localhost", true),
        ("http://localhost.example.com", false),
        ("http://notlocalhost", false),
        ("http://.localhost", false),
        ("http://127.0.0.1.example.com", false),
        ("http://127.1", false),
        ("http://[::2]", false),
    ] {
        assert_eq!(
            text.parse::<Origin>().unwrap().is_loopback(),
            loopback,
            "{text}"
        );
    }
}

#[test]
fn an_origin_exposes_its_parts() {
    for (text, scheme, host, port) in [
        ("HTTPS://Api.Example.com", "https", "api.example.com", 443),
        ("http://localhost", "http", "localhost", 80),
        ("https://[2001:DB8::1]:8443", "https", "[2001:db8::1]", 8443),
    ] {
        let origin: Origin = text.parse().unwrap();
        assert_eq!(
            (origin.scheme(), origin.host(), origin.port()),
            (scheme, host, port)
        );
        assert_eq!(origin.is_https(), scheme == "https");
        let (_, authority) = text.split_once("//").unwrap();
        assert_eq!(origin.authority(), authority.to_lowercase());
    }
}

#[test]
fn wildcards_are_named_in_display_and_debug() {
    for text in [
        "https://*.example.com",
        "https://*",
        "http://api.example.com:*",
    ] {
        let error = text.parse::<Origin>().unwrap_err();

        assert!(error.to_string().contains("it has a wildcard"), "{error}");
        assert!(
            format!("{error:?}").contains(&error.to_string()),
            "{error:?}"
        );
    }
}
