//! The quirks of real authorization servers and APIs, one test for each.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use support::{
    Body, Source, answering, api, get, layer, origin, send,
    server::{CIVIL_SECONDS, Civil, Server},
};
use tower::{Layer, service_fn};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, Clock, TokenEndpoint,
    client_credentials::{
        AccessToken, Quirk, TokenError, TokenErrorKind as Kind, TokenEvent, TokenHandle,
    },
};

#[tokio::test(start_paused = true)]
async fn q01_expires_in_as_a_string() {
    let answer = r#"{"access_token":"t","token_type":"Bearer","expires_in":"120"}"#;

    assert_met(answer, Quirk::TextualLifetime).await;
    assert_eq!(lifetime(answer).await, 120);
}

#[tokio::test(start_paused = true)]
async fn q02_expires_in_as_a_float_or_as_the_text_of_one() {
    for value in ["3600.0", "\"3600.9\"", "3.6e3"] {
        let answer = with("expires_in", value);

        assert_met(&answer, Quirk::FractionalLifetime).await;
        assert_eq!(lifetime(&answer).await, 3600, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn q03_no_expires_in() {
    let opaque = r#"{"access_token":"t","token_type":"Bearer"}"#;
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{}}}"#, CIVIL_SECONDS + 700));
    let jwt = format!(r#"{{"access_token":"e30.{claims}.c2ln","token_type":"Bearer"}}"#);

    assert_eq!(lifetime(opaque).await, 3600);
    assert_eq!(lifetime(&jwt).await, 700);
    let (outcome, quirks) = ask(opaque, |e| e.default_lifetime(Duration::from_secs(60))).await;
    assert_eq!(outcome.unwrap().lifetime(), Some(Duration::from_secs(60)));
    assert_eq!(quirks, [Quirk::NoLifetime]);
}

#[tokio::test(start_paused = true)]
async fn q04_expires_in_of_zero_below_zero_or_in_milliseconds() {
    for (value, seconds) in [
        ("0", 0),
        ("-5", 0),
        ("86400000", 365 * 86_400),
        ("1e300", 365 * 86_400),
        ("\"soon\"", 3600),
        ("[]", 3600),
    ] {
        let answer = with("expires_in", value);

        assert_eq!(lifetime(&answer).await, seconds, "{value}");
        let (_, quirks) = ask(&answer, |e| e).await;
        assert!(quirks.contains(&Quirk::ImplausibleLifetime), "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn q05_expires_on_as_a_number_or_a_date() {
    let in_ten_minutes = SystemTime::UNIX_EPOCH + Duration::from_secs(CIVIL_SECONDS + 600);
    let (seconds, date) = (CIVIL_SECONDS + 600, httpdate::fmt_http_date(in_ten_minutes));
    for value in [
        seconds.to_string(),
        format!("\"{seconds}\""),
        format!("\"{date}\""),
        "\"2027-01-15T08:10:00Z\"".to_owned(),
        "\"01/15/2027 08:10:00 +00:00\"".to_owned(),
        "\"1/15/2027 8:10:00 AM +00:00\"".to_owned(),
    ] {
        assert_eq!(lifetime(&with("expires_on", &value)).await, 600, "{value}");
    }
    let both = r#"{"access_token":"t","expires_in":5,"expires_on":9999999999}"#;
    assert_eq!(lifetime(both).await, 5);
}

#[tokio::test(start_paused = true)]
async fn q06_expires_in_as_an_absolute_time() {
    let seconds = CIVIL_SECONDS + 600;
    for value in [
        seconds.to_string(),
        (seconds * 1000).to_string(),
        "\"2027-01-15T08:10:00Z\"".to_owned(),
    ] {
        let answer = with("expires_in", &value);

        assert_met(&answer, Quirk::AbsoluteLifetime).await;
        assert_eq!(lifetime(&answer).await, 600, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn q07_refresh_in_and_ext_expires_in() {
    let answer = r#"{"access_token":"t","token_type":"Bearer","expires_in":1000,"ext_expires_in":9000,"refresh_in":"500"}"#;
    let handle = Server::answering(|_| (200, answer.to_owned())).endpoint(auth());
    let handle = ClientCredentialsLayer::builder(handle, origin())
        .seed(7)
        .build()
        .handle();
    handle.token().await.unwrap();

    tokio::time::advance(Duration::from_secs(440)).await;
    assert!(!handle.status().is_due());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(handle.status().is_due());
    tokio::time::advance(Duration::from_secs(500)).await;
    assert!(!handle.status().is_usable());
}

#[tokio::test(start_paused = true)]
async fn q08_members_of_keycloak() {
    let answer = r#"{"access_token":"t","expires_in":300,"refresh_expires_in":0,"refresh_token":"canary","token_type":"Bearer","not-before-policy":0,"session_state":"s","scope":"profile"}"#;

    let (outcome, quirks) = ask(answer, TokenEndpoint::strict).await;

    let token = outcome.unwrap();
    assert_eq!(token.lifetime(), Some(Duration::from_secs(300)));
    assert_eq!(token.scope(), Some("profile"));
    assert!(token.member("refresh_token").is_none());
    assert_eq!(quirks, []);
}

#[tokio::test(start_paused = true)]
async fn q09_no_token_type() {
    assert_met(
        r#"{"access_token":"t","expires_in":60}"#,
        Quirk::NoTokenType,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn q10_token_type_in_any_case_is_sent_as_bearer() {
    for kind in ["bearer", "BEARER", "Bearer"] {
        let server = Server::answering(move |_| (200, with("token_type", &format!("\"{kind}\""))));
        let layer = ClientCredentialsLayer::builder(server.endpoint(auth()).strict(), origin());
        let seen = Arc::new(Mutex::new(None));
        let log = Arc::clone(&seen);
        let (api, _) = answering(move |request| {
            *log.lock().unwrap() = request.headers().get(header::AUTHORIZATION).cloned();
            std::future::ready(support::status_only(StatusCode::OK))
        });

        send(&layer.build().layer(api), get("/")).await.unwrap();

        assert_eq!(seen.lock().unwrap().clone().unwrap(), "Bearer t");
    }
    let mac = refusal(200, &with("token_type", "\"mac\"")).await;
    assert_eq!(mac.kind(), Kind::UnsupportedTokenType);
}

#[tokio::test(start_paused = true)]
async fn q11_scope_as_an_array() {
    let answer = r#"{"access_token":"t","token_type":"bearer","expires_in":60,"scope":["a","b"]}"#;

    let token = assert_met(answer, Quirk::ScopeAsArray).await;

    assert_eq!(token.scope(), Some("a b"));
    assert_eq!(
        ask(&with("scope", "null"), |e| e).await.0.unwrap().scope(),
        None
    );
}

#[tokio::test(start_paused = true)]
async fn q12_a_form_or_plain_text_for_an_answer() {
    let answer = "access_token=t%2Bt&token_type=bearer&expires_in=120&scope=a+b";

    let token = assert_met(answer, Quirk::FormEncoded).await;

    assert_eq!(token.expose(), Some("t+t"));
    assert_eq!(token.scope(), Some("a b"));
    assert_eq!(token.lifetime(), Some(Duration::from_secs(120)));
    let refused = refusal(200, "error=invalid_client").await;
    assert_eq!(refused.oauth_error(), Some("invalid_client"));
}

#[tokio::test(start_paused = true)]
async fn q13_an_error_with_status_200() {
    let error = refusal(200, r#"{"error":"invalid_client","access_token":"t"}"#).await;

    assert_eq!(error.kind(), Kind::CredentialsRefused);
    assert!(!error.is_transient());
}

#[tokio::test(start_paused = true)]
async fn q14_status_200_with_an_empty_body() {
    for body in ["", " \r\n"] {
        let error = refusal(200, body).await;

        assert_eq!(error.kind(), Kind::Malformed);
        assert!(error.is_transient() && error.to_string().contains("empty body"));
    }
}

#[tokio::test(start_paused = true)]
async fn q15_a_web_page_whatever_the_content_type() {
    let page = "<html><body>canary</body></html>";
    for (status, kind) in [
        (200, Kind::Malformed),
        (401, Kind::CredentialsRefused),
        (500, Kind::Server),
    ] {
        let answer = Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, "application/json");
        let answer = answer.body(Body::from(page)).unwrap();

        let error = ask_http(answer, |e| e).await.0.unwrap_err();

        assert_eq!(error.kind(), kind);
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    assert!(refusal(200, page).await.to_string().contains("web page"));
}

#[tokio::test(start_paused = true)]
async fn q16_a_429_that_cannot_be_parsed() {
    let error = refusal(429, "slow\u{0} down {").await;

    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Throttled, true)
    );
}

#[tokio::test(start_paused = true)]
async fn q17_retry_after_in_seconds_as_a_date_and_twice() {
    for (status, lines, seconds) in [
        (429, vec!["120"], 120),
        (503, vec!["120"], 120),
        (503, vec!["Fri, 15 Jan 2027 08:02:00 GMT"], 120),
        (429, vec!["5", "120", "soon"], 120),
        (400, vec!["120"], 120),
    ] {
        let mut answer = Response::builder().status(status);
        for line in &lines {
            answer = answer.header(header::RETRY_AFTER, *line);
        }
        let error = ask_http(answer.body(Body::default()).unwrap(), |e| e).await;

        let wait = error.0.unwrap_err().retry_after().unwrap();
        assert_eq!(wait.as_secs(), seconds, "{status} {lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn q18_a_rate_limit_as_a_400() {
    for body in [
        r#"{"error":"invalid_request","error_description":"Rate limit exceeded: 10 tokens in 28800 s"}"#,
        r#"{"error":"too_many_requests"}"#,
        r#"{"message":"Too many requests"}"#,
    ] {
        let error = refusal(400, body).await;

        assert_eq!(error.kind(), Kind::Throttled, "{body}");
        assert!(error.is_transient());
    }
    // An error code that is a verdict is believed.
    let refused = r#"{"error":"invalid_client","error_description":"too many attempts"}"#;
    assert_eq!(refusal(400, refused).await.kind(), Kind::CredentialsRefused);
}

#[tokio::test(start_paused = true)]
async fn q19_a_rate_limit_as_a_403_web_page() {
    assert!(
        refusal(403, "<html>Our systems have detected</html>")
            .await
            .is_transient()
    );
    let refused = refusal(403, r#"{"error":"unauthorized_client"}"#).await;
    assert!(!refused.is_transient());
}

#[tokio::test(start_paused = true)]
async fn q20_issue_quotas_are_not_spent_on_early_refreshes() {
    let source = Source::living(Duration::from_secs(86_400));
    let service = layer(&source).build().layer(api(&source).0);

    for _ in 0..96 {
        send(&service, get("/")).await.unwrap();
        tokio::time::advance(Duration::from_secs(900)).await;
    }

    assert!(source.fetches() <= 2, "{} in a day", source.fetches());
}

#[tokio::test(start_paused = true)]
async fn q21_a_5xx_that_carries_an_oauth_error() {
    for code in ["invalid_client", "invalid_grant"] {
        let error = refusal(500, &format!(r#"{{"error":"{code}"}}"#)).await;

        assert_eq!((error.kind(), error.is_transient()), (Kind::Server, true));
        assert_eq!(error.oauth_error(), Some(code));
    }
    for status in [400, 401] {
        let error = refusal(status, r#"{"error":"invalid_client"}"#).await;
        assert_eq!(error.kind(), Kind::CredentialsRefused);
    }
}

#[tokio::test(start_paused = true)]
async fn q22_a_server_that_does_not_decode_basic() {
    let server = Server::granting();
    let raw = ClientAuth::basic_raw("id", "p@ss w");

    handle(server.endpoint(raw)).token().await.unwrap();

    // `id:p@ss w`
    assert_eq!(
        server.last().headers[header::AUTHORIZATION],
        "Basic aWQ6cEBzcyB3"
    );
}

#[tokio::test(start_paused = true)]
async fn q23_only_one_place_for_the_secret_is_used_and_none_is_probed() {
    let server = Server::answering(|_| (401, r#"{"error":"invalid_client"}"#.to_owned()));

    let post = handle(server.endpoint(ClientAuth::post("id", "secret")));
    post.token().await.unwrap_err();
    let asked = server.last();
    handle(server.endpoint(auth())).token().await.unwrap_err();

    assert_eq!(asked.one("client_secret"), Some("secret"));
    assert!(!asked.headers.contains_key(header::AUTHORIZATION));
    assert_eq!(server.last().one("client_secret"), None);
    assert_eq!(server.asked().len(), 2);
}

#[cfg(feature = "jwt-rust-crypto")]
#[tokio::test(start_paused = true)]
async fn q24_the_audience_and_type_of_assertions_are_settings() {
    use tower_m2m::client_credentials::AssertionAudience;

    let auth = || ClientAuth::client_secret_jwt("id", "0123456789abcdef0123456789abcdef");
    let server = Server::granting();
    let by_default = server.endpoint(auth()).issuer("https://id.example");
    let older = server
        .endpoint(auth())
        .assertion_audience(AssertionAudience::TokenEndpoint)
        .assertion_typ(false);

    handle(by_default).token().await.unwrap();
    let new = assertion(&server);
    handle(older).token().await.unwrap();
    let old = assertion(&server);

    assert!(
        new.0.contains("client-authentication+jwt") && new.1.contains(r#""https://id.example""#)
    );
    assert!(!old.0.contains("client-authentication+jwt"));
    assert!(old.1.contains(r#""https://id.example/token""#));
}

#[tokio::test(start_paused = true)]
async fn q25_an_assertion_type_of_ones_own() {
    let path = std::env::temp_dir().join(format!("m2m-spiffe-{}", std::process::id()));
    std::fs::write(&path, "e30.e30.c2ln").unwrap();
    let server = Server::granting();
    let file = tower_m2m::client_credentials::SecretFile::new(&path);
    let auth = ClientAuth::assertion_of_type(
        "id",
        file,
        "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
    );

    let outcome = handle(server.endpoint(auth)).token().await;
    std::fs::remove_file(&path).unwrap();

    outcome.unwrap();
    assert_eq!(
        server.last().one("client_assertion_type"),
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-spiffe")
    );
}

#[tokio::test(start_paused = true)]
async fn q26_the_same_token_until_its_last_moment_is_no_hot_loop() {
    let begin = Civil.now();
    let server = Server::answering(move |_| {
        // The issuer caches each token for 300 s and says what is left.
        let (number, age) = {
            let age = (Civil.now() - begin).as_secs();
            (age / 300, age % 300)
        };
        let left = 300 - age;
        (
            200,
            format!(r#"{{"access_token":"t{number}","token_type":"Bearer","expires_in":{left}}}"#),
        )
    });
    let layer = ClientCredentialsLayer::builder(server.endpoint(auth()), origin()).seed(7);
    let service = layer
        .build()
        .layer(answering(|_| std::future::ready(support::status_only(StatusCode::OK))).0);

    for _ in 0..3100 {
        send(&service, get("/")).await.unwrap();
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_millis(100)).await;
    }

    let asked = server.asked().len();
    assert!((3..=12).contains(&asked), "{asked} token requests");
}

#[tokio::test(start_paused = true)]
async fn q27_all_opaque_tokens_die_when_the_server_restarts() {
    let source = Source::default();
    let service = layer(&source).build().layer(api(&source).0);
    send(&service, get("/")).await.unwrap();

    source.revoke_all();
    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn q28_an_api_that_says_403_or_404_is_not_asked_again() {
    for status in [
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
        StatusCode::BAD_REQUEST,
    ] {
        let source = Source::default();
        let (api, calls) = answering(move |_| std::future::ready(support::status_only(status)));
        let service = layer(&source).build().layer(api);

        let response = send(&service, get("/")).await.unwrap();

        assert_eq!(response.status(), status);
        assert_eq!(source.fetches(), 1);
        assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn q29_a_401_without_a_challenge_is_about_the_token() {
    let source = Source::default();
    let valid = source.clone();
    let (api, _) = answering(move |request| {
        let accepted = valid.accepts(&request);
        let mut response = Response::new(Body::from(r#"{"message":"Unauthorized"}"#));
        if !accepted {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        std::future::ready(response)
    });
    let service = layer(&source).build().layer(api);
    send(&service, get("/")).await.unwrap();

    source.revoke_all();

    assert_eq!(
        send(&service, get("/")).await.unwrap().status(),
        StatusCode::OK
    );
}

#[tokio::test(start_paused = true)]
async fn q30_further_members_duplicates_and_very_long_tokens() {
    let long = "x".repeat(100_000);
    let answer = format!(
        r#"{{"access_token":"{long}","token_type":"Bearer","expires_in":60,"instance_url":"https://eu.example","id":"1","scope":"api","client_secret":"canary","nested":{{"id_token":"canary","a":[1,"eyJ.canary.x"]}},"id":"2"}}"#
    );
    let server = Server::answering(move |_| (200, answer.clone()));
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
    assert_met(twice, Quirk::DuplicateMember).await;
}

#[tokio::test(start_paused = true)]
async fn q31_clocks_that_differ() {
    // The server's clock is a day ahead; it says so itself.
    let server_now = CIVIL_SECONDS + 86_400;
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(server_now));
    for (answer, seconds) in [
        (with("exp", &(server_now + 600).to_string()), 600),
        (with("expires_on", &(server_now + 600).to_string()), 600),
        (with("expires_in", "300"), 300),
    ] {
        let response = Response::builder().header(header::DATE, &date);

        let (outcome, _) = ask_http(response.body(Body::from(answer)).unwrap(), |e| e).await;

        assert_eq!(outcome.unwrap().lifetime().unwrap().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn strict_mode_accepts_what_the_rfc_allows() {
    let plain =
        r#"{"access_token":"t","token_type":"bearer","expires_in":60,"scope":"a b","extra":{}}"#;
    let without_lifetime = r#"{"access_token":"t","token_type":"Bearer"}"#;

    for answer in [plain, without_lifetime] {
        ask(answer, TokenEndpoint::strict).await.0.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn another_content_type_than_json_is_a_quirk() {
    let answer = || {
        let response = Response::builder().header(header::CONTENT_TYPE, "text/html");
        let body = r#"{"access_token":"t","token_type":"bearer","expires_in":60}"#;
        response.body(Body::from(body)).unwrap()
    };

    let (outcome, quirks) = ask_http(answer(), |e| e).await;
    let (refused, _) = ask_http(answer(), TokenEndpoint::strict).await;

    outcome.unwrap();
    assert_eq!(quirks, [Quirk::WrongContentType]);
    assert_eq!(refused.unwrap_err().kind(), Kind::NotStrict);
}

/// The token of an answer in which `quirk` is met, and which strict mode refuses by its name.
async fn assert_met(answer: &str, quirk: Quirk) -> AccessToken {
    let (outcome, quirks) = ask(answer, |e| e).await;
    assert!(quirks.contains(&quirk), "{quirks:?}");

    let (refused, _) = ask(answer, TokenEndpoint::strict).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), Kind::NotStrict);
    assert!(!refused.is_transient());
    assert!(
        refused.to_string().contains("RFC 6749 forbids"),
        "{refused}"
    );
    outcome.unwrap()
}

async fn lifetime(answer: &str) -> u64 {
    let (outcome, _) = ask(answer, |e| e).await;
    outcome.unwrap().lifetime().unwrap().as_secs()
}

async fn refusal(status: u16, body: &str) -> TokenError {
    let answer = Response::builder().status(status);
    let answer = answer.body(Body::from(body.to_owned())).unwrap();
    ask_http(answer, |e| e).await.0.unwrap_err()
}

/// An answer in order but for one member.
fn with(name: &str, value: &str) -> String {
    let others = [("access_token", "\"t\""), ("token_type", "\"Bearer\"")];
    let mut members: Vec<_> = others.iter().filter(|(other, _)| *other != name).collect();
    let member = (name, value);
    members.push(&member);
    let members: Vec<_> = members
        .iter()
        .map(|(n, v)| format!("\"{n}\":{v}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

async fn ask(
    answer: &str,
    settings: impl FnOnce(TokenEndpoint) -> TokenEndpoint,
) -> (Result<AccessToken, TokenError>, Vec<Quirk>) {
    ask_http(Response::new(Body::from(answer.to_owned())), settings).await
}

/// What comes of an answer, and the quirks that were told.
async fn ask_http(
    answer: Response<Body>,
    settings: impl FnOnce(TokenEndpoint) -> TokenEndpoint,
) -> (Result<AccessToken, TokenError>, Vec<Quirk>) {
    let quirks = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&quirks);
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        std::future::ready(Ok::<_, BoxError>(answer.clone()))
    });
    let endpoint = TokenEndpoint::new("https://id.example/token".parse().unwrap(), auth());
    let layer = ClientCredentialsLayer::builder(settings(endpoint).service(service), origin())
        .clock(Civil)
        .on_event(move |event| {
            if let TokenEvent::QuirkMet { quirk, .. } = event {
                log.lock().unwrap().push(*quirk);
            }
        });
    let outcome = layer.build().handle().token().await;
    let quirks = quirks.lock().unwrap().clone();
    (outcome, quirks)
}

fn handle(endpoint: TokenEndpoint) -> TokenHandle {
    support::server::handle(endpoint)
}

fn auth() -> ClientAuth {
    ClientAuth::basic("id", "secret")
}

/// Header and claims of the last assertion.
#[cfg(feature = "jwt-rust-crypto")]
fn assertion(server: &Server) -> (String, String) {
    let asked = server.last();
    let mut parts = asked.one("client_assertion").unwrap().split('.');
    let mut part = || {
        let bytes = URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    (part(), part())
}
