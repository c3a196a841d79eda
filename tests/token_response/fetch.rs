//! What comes of one answer of a token endpoint.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::service_fn;
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{
        AccessToken, NonConformance, TokenError, TokenErrorKind as Kind, TokenEvent,
    },
};

use crate::support::{Body, origin, server::FixedClock};

/// The token of a response with the given non-conformance, which strict mode rejects by name.
pub(crate) async fn assert_non_conformance(answer: &str, quirk: NonConformance) -> AccessToken {
    let (outcome, non_conformances) = fetch(answer, |e| e).await;
    assert!(non_conformances.contains(&quirk), "{non_conformances:?}");

    let (refused, _) = fetch(answer, |e| e.strict(true)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), Kind::InvalidResponse);
    assert!(!refused.is_transient());
    assert!(
        refused.to_string().contains("RFC 6749 forbids"),
        "{refused}"
    );
    outcome.unwrap()
}

pub(crate) async fn lifetime(answer: &str) -> u64 {
    let (outcome, _) = fetch(answer, |e| e).await;
    outcome.unwrap().lifetime().unwrap().as_secs()
}

pub(crate) async fn error_response(status: u16, body: &str) -> TokenError {
    let answer = Response::builder().status(status);
    let answer = answer.body(Body::from(body.to_owned())).unwrap();
    fetch_http(answer, |e| e).await.0.unwrap_err()
}

/// A valid response except for one member.
pub(crate) fn with(name: &str, value: &str) -> String {
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

pub(crate) async fn fetch(
    answer: &str,
    settings: impl FnOnce(TokenEndpoint) -> TokenEndpoint,
) -> (Result<AccessToken, TokenError>, Vec<NonConformance>) {
    fetch_http(Response::new(Body::from(answer.to_owned())), settings).await
}

/// The result of a response, and the non-conformances that were reported.
pub(crate) async fn fetch_http(
    answer: Response<Body>,
    settings: impl FnOnce(TokenEndpoint) -> TokenEndpoint,
) -> (Result<AccessToken, TokenError>, Vec<NonConformance>) {
    let non_conformances = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&non_conformances);
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        std::future::ready(Ok::<_, BoxError>(answer.clone()))
    });
    let endpoint = TokenEndpoint::new("https://id.example/token".parse().unwrap(), auth());
    let layer = ClientCredentialsLayer::builder(settings(endpoint).service(service), origin())
        .clock(FixedClock)
        .on_event(move |event| {
            if let TokenEvent::NonConformingResponse {
                non_conformance: quirk,
                ..
            } = event
            {
                log.lock().unwrap().push(*quirk);
            }
        });
    let outcome = layer.build().handle().token().await;
    let non_conformances = non_conformances.lock().unwrap().clone();
    (outcome, non_conformances)
}

pub(crate) fn auth() -> ClientAuth {
    ClientAuth::basic("id", "secret")
}
