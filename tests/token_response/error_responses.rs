//! How token endpoints say no.

use http::{Response, header};
use tower_m2m::client_credentials::TokenErrorKind as Kind;

use crate::{
    fetch::{error_response, fetch_http},
    support::Body,
};

#[tokio::test(start_paused = true)]
async fn q13_an_error_with_status_200() {
    let error = error_response(200, r#"{"error":"invalid_client","access_token":"t"}"#).await;

    assert_eq!(error.kind(), Kind::InvalidClient);
    assert!(!error.is_transient());
}

#[tokio::test(start_paused = true)]
async fn q14_status_200_with_an_empty_body() {
    for body in ["", " \r\n"] {
        let error = error_response(200, body).await;

        assert_eq!(error.kind(), Kind::InvalidResponse);
        assert!(error.is_transient() && error.to_string().contains("empty body"));
    }
}

#[tokio::test(start_paused = true)]
async fn q15_an_html_page_with_any_content_type() {
    let page = "<html><body>canary</body></html>";
    for (status, kind) in [
        (200, Kind::InvalidResponse),
        (401, Kind::InvalidClient),
        (500, Kind::Server),
    ] {
        let answer = Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, "application/json");
        let answer = answer.body(Body::from(page)).unwrap();

        let error = fetch_http(answer, |e| e).await.0.unwrap_err();

        assert_eq!(error.kind(), kind);
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    assert!(
        error_response(200, page)
            .await
            .to_string()
            .contains("web page")
    );
}

#[tokio::test(start_paused = true)]
async fn q16_a_429_that_cannot_be_parsed() {
    let error = error_response(429, "slow\u{0} down {").await;

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
        let error = fetch_http(answer.body(Body::default()).unwrap(), |e| e).await;

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
        let error = error_response(400, body).await;

        assert_eq!(error.kind(), Kind::Throttled, "{body}");
        assert!(error.is_transient());
    }
    // An error code that is a verdict is believed.
    let refused = r#"{"error":"invalid_client","error_description":"too many attempts"}"#;
    assert_eq!(
        error_response(400, refused).await.kind(),
        Kind::InvalidClient
    );
}

#[tokio::test(start_paused = true)]
async fn q19_a_rate_limit_as_a_403_html_page() {
    assert!(
        error_response(403, "<html>Our systems have detected</html>")
            .await
            .is_transient()
    );
    let refused = error_response(403, r#"{"error":"unauthorized_client"}"#).await;
    assert!(!refused.is_transient());
}

#[tokio::test(start_paused = true)]
async fn q21_a_5xx_that_carries_an_oauth_error() {
    for code in ["invalid_client", "invalid_grant"] {
        let error = error_response(500, &format!(r#"{{"error":"{code}"}}"#)).await;

        assert_eq!((error.kind(), error.is_transient()), (Kind::Server, true));
        assert_eq!(error.oauth_error(), Some(code));
    }
    for status in [400, 401] {
        let error = error_response(status, r#"{"error":"invalid_client"}"#).await;
        assert_eq!(error.kind(), Kind::InvalidClient);
    }
}

#[tokio::test(start_paused = true)]
async fn a_403_without_a_body_rejects_the_credentials_and_names_the_remedy() {
    for body in [
        "",
        "\r\n",
        r#"{"error":"Forbidden"}"#,
        r#"{"message":"no"}"#,
    ] {
        let error = error_response(403, body).await;

        assert_eq!(error.kind(), Kind::InvalidClient, "{body}");
        assert!(
            error.is_transient() && error.oauth_error().is_none(),
            "{body}"
        );
        assert!(
            error.to_string().contains("check the client id and secret"),
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn transient_failures_are_recognized_for_any_status() {
    for body in [
        r#"{"error":"unknown_error","error_description":"retry your request"}"#,
        r#"{"error":"invalid_request","error_description":"AADSTS90033: A transient error has occurred."}"#,
        r#"{"error":"server_error","error_description":"Temporarily unavailable"}"#,
        r#"{"message":"Service is busy, please try again later."}"#,
    ] {
        let error = error_response(400, body).await;
        assert_eq!(
            (error.kind(), error.is_transient()),
            (Kind::Server, true),
            "{body}"
        );
    }
}
