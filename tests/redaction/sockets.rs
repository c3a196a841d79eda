//! Real connections: what hyper, rustls and the layers log about them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, StatusCode};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, ServiceExt};
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer, TokenEndpoint,
    client_credentials::AccessToken,
    test_util::{Answer, Api, Fault, Issuer, Quota},
};

use super::{
    output_log::{OutputLog, assert_log_is_clean, listen},
    search::{API_KEY, SECRETS, TOKEN},
};

#[tokio::test]
async fn connections_log_no_secret_and_no_token() {
    listen();
    for http2 in [false, true] {
        for secret in SECRETS {
            run(http2, secret).await;
        }
    }
    let log = assert_log_is_clean();
    for part in ["hyper_util::", "h2::"] {
        assert!(log.contains(part), "nothing of {part} was logged");
    }
    assert!(!cfg!(feature = "tracing") || log.contains("tower_m2m::token"));
}

async fn run(http2: bool, secret: &'static str) {
    let witness = OutputLog::default();
    let issuer = Issuer::builder()
        .client("id", secret)
        .answer(Answer::custom(|_| {
            format!(r#"{{"access_token":"{TOKEN}","token_type":"Bearer","expires_in":300}}"#)
        }))
        .start()
        .await
        .unwrap();
    let tokens = issuer.tokens();
    tokens.insert(TOKEN, Duration::from_secs(300));
    let api = Api::builder()
        .tokens(tokens.clone())
        .api_key(X_API_KEY, API_KEY)
        .quota(Quota::fixed_window(100, Duration::from_secs(60)))
        .start()
        .await
        .unwrap();
    let http = client(http2);
    let auths = [
        ClientAuth::basic("id", secret),
        ClientAuth::post("id", secret),
    ];
    for auth in auths {
        let endpoint =
            TokenEndpoint::new(issuer.token_url().parse().unwrap(), auth).service(http.clone());
        let origin = api.origin().parse().unwrap();
        let seen = witness.clone();
        let layer = ClientCredentialsLayer::builder(endpoint, origin)
            .on_event(move |event| seen.token_event(event))
            .build();
        let handle = layer.handle();
        let service = M2mLayer::new(RateLimitRetryLayer::new(), layer).layer(http.clone());

        let status = get(service.clone(), &api).await;
        tokens.revoke(TOKEN);
        let refused = get(service.clone(), &api).await;
        tokens.insert(TOKEN, Duration::from_secs(300));
        handle.invalidate();
        issuer.next(Fault::Body(
            format!("<html>{}</html>", secret).into(),
            "text/html".to_owned(),
        ));
        let failed = service.oneshot(request(&api)).await.unwrap_err();

        assert_eq!(
            (status, refused),
            (StatusCode::OK, StatusCode::UNAUTHORIZED)
        );
        witness.error(&*failed);
        witness.debug(&(handle.status(), &handle));
    }
    let origin = api.origin().parse().unwrap();
    let layer =
        ClientCredentialsLayer::builder(AccessToken::new(API_KEY), origin).header(X_API_KEY);
    assert_eq!(get(layer.build().layer(http), &api).await, StatusCode::OK);
    witness.debug(&(&issuer, issuer.requests(), &api, api.requests(), tokens));
    witness.assert_clean(secret);
}

type Http = Client<HttpConnector, Full<Bytes>>;

fn client(http2: bool) -> Http {
    Client::builder(TokioExecutor::new())
        .http2_only(http2)
        .build_http()
}

fn request(api: &Api) -> Request<Full<Bytes>> {
    Request::get(api.url()).body(Full::default()).unwrap()
}

async fn get<S, RB>(service: S, api: &Api) -> StatusCode
where
    S: tower::Service<Request<Full<Bytes>>, Response = http::Response<RB>>,
    S::Error: std::fmt::Debug,
{
    service.oneshot(request(api)).await.unwrap().status()
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
