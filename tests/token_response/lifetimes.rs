//! A token's lifetime, in every form in which it is announced, or not announced.

use std::time::{Duration, SystemTime};

use base64::{
    Engine,
    engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
};
use http::{Response, header};
use tower_m2m::{ClientCredentialsLayer, client_credentials::NonConformance};

use crate::{
    fetch::{assert_non_conformance, auth, fetch, fetch_http, lifetime, with},
    support::{
        Body, origin,
        server::{FIXED_SECONDS, Server},
    },
};

#[tokio::test(start_paused = true)]
async fn q01_expires_in_as_a_string() {
    let answer = r#"{"access_token":"t","token_type":"Bearer","expires_in":"120"}"#;

    assert_non_conformance(answer, NonConformance::TextualLifetime).await;
    assert_eq!(lifetime(answer).await, 120);
}

#[tokio::test(start_paused = true)]
async fn q02_expires_in_as_a_float_or_as_the_text_of_one() {
    for value in ["3600.0", "\"3600.9\"", "3.6e3"] {
        let answer = with("expires_in", value);

        assert_non_conformance(&answer, NonConformance::FractionalLifetime).await;
        assert_eq!(lifetime(&answer).await, 3600, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn q03_no_expires_in() {
    let opaque = r#"{"access_token":"t","token_type":"Bearer"}"#;
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{}}}"#, FIXED_SECONDS + 700));
    let jwt = format!(r#"{{"access_token":"e30.{claims}.c2ln","token_type":"Bearer"}}"#);

    assert_eq!(lifetime(opaque).await, 3600);
    assert_eq!(lifetime(&jwt).await, 700);
    let (outcome, non_conformances) =
        fetch(opaque, |e| e.default_lifetime(Duration::from_secs(60))).await;
    assert_eq!(outcome.unwrap().lifetime(), Some(Duration::from_secs(60)));
    assert_eq!(non_conformances, [NonConformance::NoLifetime]);
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
        let (_, non_conformances) = fetch(&answer, |e| e).await;
        assert!(
            non_conformances.contains(&NonConformance::ImplausibleLifetime),
            "{value}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn q05_expires_on_as_a_number_or_a_date() {
    let in_ten_minutes = SystemTime::UNIX_EPOCH + Duration::from_secs(FIXED_SECONDS + 600);
    let (seconds, date) = (FIXED_SECONDS + 600, httpdate::fmt_http_date(in_ten_minutes));
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
    let seconds = FIXED_SECONDS + 600;
    for value in [
        seconds.to_string(),
        (seconds * 1000).to_string(),
        "\"2027-01-15T08:10:00Z\"".to_owned(),
    ] {
        let answer = with("expires_in", &value);

        assert_non_conformance(&answer, NonConformance::AbsoluteLifetime).await;
        assert_eq!(lifetime(&answer).await, 600, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn q07_refresh_in_and_ext_expires_in() {
    let answer = r#"{"access_token":"t","token_type":"Bearer","expires_in":1000,"ext_expires_in":9000,"refresh_in":"500"}"#;
    let handle = Server::serving(|_| (200, answer.to_owned())).endpoint(auth());
    let handle = ClientCredentialsLayer::builder(handle, origin())
        .seed(7)
        .build()
        .handle();
    handle.token().await.unwrap();

    tokio::time::advance(Duration::from_secs(440)).await;
    assert!(!handle.status().is_stale());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(handle.status().is_stale());
    tokio::time::advance(Duration::from_secs(500)).await;
    assert!(!handle.status().is_usable());
}

#[tokio::test(start_paused = true)]
async fn q31_clock_skew() {
    // The server's clock is a day ahead; it says so itself.
    let server_now = FIXED_SECONDS + 86_400;
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(server_now));
    for (answer, seconds) in [
        (with("exp", &(server_now + 600).to_string()), 600),
        (with("expires_on", &(server_now + 600).to_string()), 600),
        (with("expires_in", "300"), 300),
    ] {
        let response = Response::builder().header(header::DATE, &date);

        let (outcome, _) = fetch_http(response.body(Body::from(answer)).unwrap(), |e| e).await;

        assert_eq!(outcome.unwrap().lifetime().unwrap().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn the_exp_of_a_jwt_counts_if_it_is_earlier_than_expires_in() {
    let now = FIXED_SECONDS;
    for (claims, seconds) in [
        (format!(r#"{{"exp":{}}}"#, now + 600), 600),
        (
            format!(r#"{{"exp":{},"iat":{}}}"#, now + 600, now - 3000),
            600,
        ),
        (format!(r#"{{"exp":"{}"}}"#, now + 600), 600),
        (format!(r#"{{"exp":{}}}"#, (now + 600) * 1000), 600),
        // Later, over, ended before it began, not a date: `expires_in` counts.
        (format!(r#"{{"exp":{}}}"#, now + 7200), 3600),
        (format!(r#"{{"exp":{}}}"#, now - 1), 3600),
        (
            format!(r#"{{"exp":{},"iat":{}}}"#, now + 600, now + 601),
            3600,
        ),
        (r#"{"exp":"soon"}"#.to_owned(), 3600),
        (r#"{"exp":0}"#.to_owned(), 3600),
    ] {
        for claims in [URL_SAFE.encode(&claims), URL_SAFE_NO_PAD.encode(&claims)] {
            let jwt = format!("e30.{claims}.c2ln");
            let answer =
                format!(r#"{{"access_token":"{jwt}","token_type":"Bearer","expires_in":3600}}"#);

            let (outcome, non_conformances) = fetch(&answer, |e| e.strict(true)).await;

            assert_eq!(
                outcome.unwrap().lifetime().unwrap().as_secs(),
                seconds,
                "{answer}"
            );
            assert_eq!(
                non_conformances.contains(&NonConformance::ShorterLifetime),
                seconds == 600
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_exp_of_a_jwt_is_relative_to_the_servers_clock() {
    let server_now = FIXED_SECONDS - 3000;
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(server_now));
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{}}}"#, server_now + 3600));
    let answer = with("access_token", &format!("\"e30.{claims}.c2ln\""));
    let answer = answer.replace('}', r#","expires_in":3600}"#);
    let response = Response::builder().header(header::DATE, &date);

    let (outcome, _) = fetch_http(response.body(Body::from(answer)).unwrap(), |e| e).await;

    assert_eq!(outcome.unwrap().lifetime().unwrap().as_secs(), 3600);
}

#[tokio::test(start_paused = true)]
async fn other_expiry_members_are_read() {
    let seconds = FIXED_SECONDS + 600;
    for name in ["expires", "expires_at", "expires_on", "exp"] {
        for value in [
            seconds.to_string(),
            format!("\"{seconds}\""),
            (seconds * 1000).to_string(),
            "600".to_owned(),
            "\"2027-01-15T08:10:00Z\"".to_owned(),
        ] {
            assert_eq!(lifetime(&with(name, &value)).await, 600, "{name}: {value}");
        }
        for nothing in ["null", "0", "-1", "\"never\"", "true"] {
            assert_eq!(
                lifetime(&with(name, nothing)).await,
                3600,
                "{name}: {nothing}"
            );
        }
    }
}
