//! An API that repeats the token, and requests that hold what must not show.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use tower::Layer;
use tower_m2m::{
    BoxError, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer, TokenEndpoint,
    client_credentials::{
        AccessToken, BoxTokenSource, CredentialAlreadyPresent, ExistingCredential,
        OriginNotAllowed, TokenError, TokenErrorKind, TokenSource,
    },
    rate_limit_retry::{GaveUp, RateLimited},
    replay::{Once, ReplayBody},
};

use super::{
    output_log::{OutputLog, assert_log_is_clean, listen},
    search::{API_KEY, SECRETS, SHORT_TOKEN, TOKEN, percent},
    support::{API, Body, Inner, get, origin, send, serving, status_only},
};

#[tokio::test(start_paused = true)]
async fn a_rejected_request_is_not_shown() {
    listen();
    let key = percent(SECRETS[0]);
    for uri in [
        format!("https://{key}:{TOKEN}@evil.example/{key}?key={TOKEN}"),
        format!("https://evil.example/{key}/{TOKEN}?key={key}"),
        format!("https://{key}@api.example.com/"),
        format!("http://api.example.com/{TOKEN}"),
        format!("/{TOKEN}?key={key}"),
    ] {
        let witness = OutputLog::default();
        let layer = layer(AccessToken::new(TOKEN), &witness, |builder| builder);
        let request = Request::get(&uri).body(Body::default()).unwrap();

        let error = send(&layer.layer(api(&witness, ok)), request)
            .await
            .unwrap_err();

        assert!(error.is::<OriginNotAllowed>(), "{error}");
        witness.error(&*error);
        witness.assert_clean(&uri);
    }
    assert_log_is_clean();
}

#[tokio::test(start_paused = true)]
async fn rejected_headers_are_not_shown() {
    listen();
    for (name, value) in [(header::HOST, TOKEN), (header::AUTHORIZATION, SECRETS[0])] {
        let witness = OutputLog::default();
        let layer = layer(AccessToken::new(API_KEY), &witness, |builder| {
            builder.on_existing_credential(ExistingCredential::Refuse)
        });
        let mut request = get("/");
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));

        let error = send(&layer.layer(api(&witness, ok)), request)
            .await
            .unwrap_err();

        assert!(error.is::<OriginNotAllowed>() || error.is::<CredentialAlreadyPresent>());
        witness.error(&*error);
        witness.assert_clean(value);
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_key_is_never_shown() {
    listen();
    let witness = OutputLog::default();
    let name = HeaderName::from_static("x-api-key");
    let good = layer(AccessToken::new(API_KEY), &witness, |builder| {
        builder.header(name.clone())
    });
    let service = good.layer(api(&witness, ok));
    let bad = layer(
        AccessToken::new(format!("{API_KEY}\n")),
        &witness,
        |builder| builder.header(name),
    );

    let response = send(&service, get("/")).await.unwrap();
    let error = send(&bad.layer(api(&witness, ok)), get("/"))
        .await
        .unwrap_err();

    assert_eq!(response.status(), StatusCode::OK);
    witness.error(&*error);
    assert_eq!(
        error.downcast::<TokenError>().unwrap().kind(),
        TokenErrorKind::InvalidResponse
    );
    witness.debug(&(service, BoxTokenSource::new(AccessToken::new(API_KEY))));
    witness.assert_clean("api key");
    assert!(witness.output().contains("\"x-api-key\": Sensitive"));
    assert_log_is_clean();
}

/// The API's own answer is the caller's to print; what the layers say about it is not to repeat it.
#[tokio::test(start_paused = true)]
async fn limits_and_failures_show_no_path_and_no_response_text() {
    listen();
    for status in [429, 503] {
        let witness = OutputLog::default();
        let layer = layer(AccessToken::new(TOKEN), &witness, |builder| builder);
        let inner = api(&witness, move |_| {
            let mut response = status_only(status.try_into().unwrap());
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, 3600.into());
            headers.insert("x-ratelimit-scope", HeaderValue::from_static(TOKEN));
            headers.insert(
                "ratelimit",
                HeaderValue::try_from(format!("\"{TOKEN}\";r=0;t=3600")).unwrap(),
            );
            *response.body_mut() = TOKEN.into();
            response
        });
        let service = layer.layer(inner);
        let path = format!("/{TOKEN}?key={SHORT_TOKEN}");

        let response = send(&service, get(&path)).await.unwrap();
        let held = send(&service, get(&path)).await.unwrap_err();

        witness.debug(response.extensions().get::<GaveUp>().unwrap());
        assert!(held.is::<RateLimited>());
        witness.error(&*held);
        witness.debug(&(layer.handle().quotas(), layer.handle().quotas().status()));
        witness.assert_clean(&format!("status {status}"));
        assert!(witness.output().contains("Throttled"));
    }
    assert_log_is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_shows_no_path() {
    listen();
    let witness = OutputLog::default();
    let layer = layer(AccessToken::new(TOKEN), &witness, |builder| builder);
    let service = layer.layer(tower::service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, BoxError>(std::io::Error::other("broken").into())
    }));

    let error = send(&service, get(&format!("/{TOKEN}"))).await.unwrap_err();

    witness.error(&*error);
    witness.assert_clean("broken");
    assert!(witness.output().contains("GaveUp"));
    assert_log_is_clean();
}

#[test]
fn bodies_do_not_show_their_data() {
    let witness = OutputLog::default();

    witness.debug(&ReplayBody::new(Body::from(TOKEN), 1024));
    witness.debug(&Once::new(Body::from(TOKEN)));

    witness.assert_clean("bodies");
}

#[test]
fn an_invalid_origin_is_quoted_without_secrets() {
    let witness = OutputLog::default();
    for text in [
        format!("https://user:{TOKEN}@api.example.com"),
        format!("https://{API_KEY}@api.example.com/v1"),
        format!("https://api.example.com/?key={TOKEN}"),
        format!("https://api.example.com/#{TOKEN}"),
    ] {
        witness.error(&text.parse::<tower_m2m::Origin>().unwrap_err());
    }
    let endpoint = format!("https://user:{TOKEN}@id.example/token?key={TOKEN}").parse();
    let endpoint = TokenEndpoint::new(endpoint.unwrap(), tower_m2m::ClientAuth::none("id"));
    witness.debug(&endpoint);
    witness.error(&endpoint.validate().unwrap_err());
    let issuer = format!("https://user:{TOKEN}@id.example/?key={TOKEN}");
    let endpoint = TokenEndpoint::discover(issuer, tower_m2m::ClientAuth::none("id"));
    witness.debug(&endpoint);
    witness.error(&endpoint.validate().unwrap_err());
    witness.assert_clean("origins");
}

pub(crate) fn layer(
    source: impl TokenSource,
    witness: &OutputLog,
    set: impl FnOnce(
        tower_m2m::client_credentials::ClientCredentialsLayerBuilder,
    ) -> tower_m2m::client_credentials::ClientCredentialsLayerBuilder,
) -> M2mLayer {
    let (tokens, limits) = (witness.clone(), witness.clone());
    let credentials = set(ClientCredentialsLayer::builder(source, origin()))
        .on_event(move |event| tokens.token_event(event));
    let quotas = RateLimitRetryLayer::builder()
        .max_wait(Duration::from_secs(60))
        .on_event(move |event| limits.rate_limit_event(event));
    witness.debug(&(&credentials, &quotas));
    let layer = M2mLayer::new(quotas.build(), credentials.build());
    witness.debug(&layer);
    layer
}

/// An API at [`API`] that prints its requests, as any logging layer would, except the URI, which belongs to the caller.
pub(crate) fn api(
    witness: &OutputLog,
    answer: impl Fn(&Request<Body>) -> Response<Body> + Clone + Send + Sync + 'static,
) -> Inner {
    let witness = witness.clone();
    let (inner, _) = serving(move |request| {
        assert!(request.uri().to_string().starts_with(API));
        witness.debug(request.headers());
        std::future::ready(answer(&request))
    });
    inner
}

fn ok(_: &Request<Body>) -> Response<Body> {
    status_only(StatusCode::OK)
}
