//! Token requests, however they end.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use serde_json::json;
use tower::{Layer, service_fn};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer, TokenEndpoint,
    client_credentials::{
        ClientAuthentication, Grant, IdentityAssertion, TokenError, TokenErrorKind, TokenExchange,
        TokenRequest,
    },
};

use super::{
    echo::{ANSWERS, ECHOES, json, page, server},
    output_log::{OutputLog, assert_log_is_clean, listen},
    search::{SECRETS, TOKEN, find},
    support::{Body, get, origin, send, serving, status_only},
};

#[tokio::test(start_paused = true)]
async fn no_token_response_reveals_a_secret() {
    listen();
    for secret in SECRETS {
        for (name, auth) in cases(secret) {
            for (place, answer) in ANSWERS {
                for (number, echo) in ECHOES.into_iter().enumerate() {
                    let witness = OutputLog::default();
                    let service = server(move |asked| {
                        assert!(find(&format!("{} {}", asked.form, asked.authorization)).is_some());
                        answer(&echo(asked, secret))
                    });

                    let error = fail(endpoint(auth.clone()).service(service), &witness).await;

                    witness.assert_clean(&format!("{name}, {place}, echo {number} of {secret:?}"));
                    assert_ne!(error.kind(), TokenErrorKind::Configuration, "{error}");
                }
            }
        }
    }
    let log = assert_log_is_clean();
    assert!(!cfg!(feature = "tracing") || log.contains("token fetch failed"));
}

#[tokio::test(start_paused = true)]
async fn other_form_values_are_not_shown() {
    listen();
    for secret in SECRETS {
        let exchange =
            TokenExchange::new(secret, TokenExchange::JWT).actor(secret, TokenExchange::JWT);
        let anonymous = || endpoint(ClientAuth::anonymous());
        for endpoint in [
            anonymous().parameter("password", secret),
            anonymous().grant(Grant::jwt_bearer(secret)),
            anonymous().grant(exchange),
        ] {
            for (place, answer) in ANSWERS {
                for echo in &ECHOES[..6] {
                    let witness = OutputLog::default();
                    let service = server(move |asked| answer(&echo(asked, secret)));

                    fail(endpoint.clone().service(service), &witness).await;

                    witness.assert_clean(&format!("{endpoint:?}, {place}, {secret:?}"));
                }
            }
        }
    }
    assert_log_is_clean();
}

#[tokio::test(start_paused = true)]
async fn neither_a_subject_token_nor_an_assertion_is_shown() {
    listen();
    let grant = |provider: TokenEndpoint, subject| {
        IdentityAssertion::new(provider, subject, TokenExchange::ID_TOKEN)
            .audience("https://id.example")
    };
    for secret in SECRETS {
        let issuing = service_fn(move |_: Request<Full<Bytes>>| async move {
            let issued = json!({ "access_token": secret, "token_type": "N_A", "expires_in": 300 });
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(issued.to_string())))
        });
        for (place, answer) in ANSWERS {
            for echo in &ECHOES[..6] {
                let echoing = || server(move |asked| answer(&echo(asked, secret)));
                let anonymous = || endpoint(ClientAuth::anonymous());
                let repeats_subject = grant(anonymous().service(echoing()), secret);
                let repeats_assertion = grant(anonymous().service(issuing), "a subject token");
                for grant in [repeats_subject, repeats_assertion] {
                    let witness = OutputLog::default();

                    fail(anonymous().grant(grant).service(echoing()), &witness).await;

                    witness.assert_clean(&format!("{place}, {secret:?}"));
                }
            }
        }
    }
    assert_log_is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_successful_response_reveals_nothing() {
    listen();
    let witness = OutputLog::default();
    let good = json!({
        "access_token": TOKEN, "refresh_token": TOKEN, "id_token": TOKEN, "custom": TOKEN, "expires_in": 300,
    });
    let service = server(move |_| json(200, &good));
    let endpoint = endpoint(ClientAuth::post("id", SECRETS[0])).service(service);

    let layer = observed(endpoint, &witness);
    let (inner, _) = serving({
        let witness = witness.clone();
        move |request| {
            assert!(
                request.headers()[header::AUTHORIZATION]
                    .to_str()
                    .unwrap()
                    .contains(TOKEN)
            );
            witness.debug(&request);
            std::future::ready(status_only(http::StatusCode::OK))
        }
    });
    let response = send(&layer.layer(inner.clone()), get("/")).await.unwrap();

    let token = layer.handle().tokens().token().await.unwrap();
    witness.debug(&(
        &response,
        &token,
        token.fingerprint(),
        token.clone().expires_in(LONG),
    ));
    witness.debug(&(
        layer.handle().tokens(),
        layer.handle().tokens().status(),
        &layer,
    ));
    witness.assert_clean("good answer");
    assert!(witness.output().contains("Sensitive"));
    assert_log_is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_hanging_or_failing_request_reveals_nothing() {
    listen();
    for secret in SECRETS {
        let witness = OutputLog::default();
        let hangs = service_fn(|_: Request<Full<Bytes>>| {
            std::future::pending::<Result<Response<Body>, BoxError>>()
        });
        let breaks = service_fn(|_: Request<Full<Bytes>>| async {
            Err::<Response<Body>, BoxError>(std::io::Error::other("broken").into())
        });
        let auth = ClientAuth::basic("id", secret);

        let late = fail(endpoint(auth.clone()).service(hangs), &witness).await;
        let broken = fail(endpoint(auth).service(breaks), &witness).await;

        assert_eq!(late.kind(), TokenErrorKind::Timeout);
        assert_eq!(broken.kind(), TokenErrorKind::Transport);
        witness.assert_clean(secret);
    }
    assert_log_is_clean();
}

#[tokio::test(start_paused = true)]
async fn known_error_codes_are_never_redacted() {
    for secret in ["client", "in", "invalid_client"] {
        let service = server(|_| json(401, &json!({ "error": "invalid_client" })));

        let endpoint = endpoint(ClientAuth::post("id", secret)).service(service);
        let error = fail(endpoint, &OutputLog::default()).await;

        assert_eq!(error.oauth_error(), Some("invalid_client"));
        assert_eq!(error.kind(), TokenErrorKind::InvalidClient);
    }
}

/// The query of the endpoint's URL may hold a key; reqwest's errors repeat it.
#[cfg(feature = "reqwest")]
#[tokio::test]
async fn reqwest_errors_do_not_show_the_query() {
    listen();
    let witness = OutputLog::default();
    let url = format!("http://127.0.0.1:1/token?key={TOKEN}");
    let service = service_fn(|request: Request<Full<Bytes>>| async move {
        let error = reqwest::get(request.uri().to_string()).await.unwrap_err();
        assert!(error.to_string().contains(TOKEN));
        Err::<Response<Body>, BoxError>(error.into())
    });
    let endpoint = TokenEndpoint::new(url.parse().unwrap(), ClientAuth::post("id", SECRETS[0]));

    let error = fail(endpoint.service(service), &witness).await;

    assert_eq!(error.kind(), TokenErrorKind::Transport);
    witness.assert_clean("query");
}

/// A token that cannot stand in a header is an error, which does not quote it.
#[tokio::test(start_paused = true)]
async fn an_invalid_token_is_not_shown() {
    listen();
    for token in [
        format!("{TOKEN}\n{TOKEN}"),
        format!("\u{1}{TOKEN}"),
        format!("{TOKEN}\u{7f}"),
    ] {
        let witness = OutputLog::default();
        let service = server(move |_| json(200, &json!({ "access_token": token })));

        let error = fail(
            endpoint(ClientAuth::post("id", SECRETS[1])).service(service),
            &witness,
        )
        .await;

        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
        witness.assert_clean("unsendable");
    }
}

#[tokio::test(start_paused = true)]
async fn debug_output_of_a_token_request_shows_names_only() {
    struct EchoAuth(OutputLog);

    impl ClientAuthentication for EchoAuth {
        async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
            let mut value = HeaderValue::from_static(SECRETS[0]);
            value.set_sensitive(true);
            request.header(header::AUTHORIZATION, value);
            request.parameter("password", SECRETS[1]);
            request.redact(SECRETS[2]);
            self.0.debug(request);
            Err(TokenError::permanent("was not sent"))
        }
    }

    let witness = OutputLog::default();
    let uri = format!("https://id.example/token?key={TOKEN}");
    let endpoint = TokenEndpoint::new(
        uri.parse().unwrap(),
        ClientAuth::custom(EchoAuth(witness.clone())),
    );

    fail(endpoint.service(server(|_| page(200, ""))), &witness).await;

    witness.assert_clean("token request");
    assert!(witness.output().contains("password"));
}

fn cases(secret: &'static str) -> [(&'static str, ClientAuth); 4] {
    [
        ("post", ClientAuth::post("id", secret)),
        ("basic", ClientAuth::basic("id", secret)),
        ("basic_raw", ClientAuth::basic_raw("id", secret)),
        ("assertion", ClientAuth::assertion("id", secret)),
    ]
}

fn endpoint(auth: ClientAuth) -> TokenEndpoint {
    TokenEndpoint::new("https://id.example/token".parse().unwrap(), auth)
}

/// Both layers over `endpoint`, with everything that shows on the way.
pub(crate) fn observed(endpoint: TokenEndpoint, witness: &OutputLog) -> M2mLayer {
    witness.debug(&endpoint);
    if let Err(error) = endpoint.validate() {
        witness.error(&error);
    }
    let (tokens, limits) = (witness.clone(), witness.clone());
    let credentials = ClientCredentialsLayer::builder(endpoint, origin())
        .name("orders")
        .on_event(move |event| tokens.token_event(event));
    let quotas =
        RateLimitRetryLayer::builder().on_event(move |event| limits.rate_limit_event(event));
    witness.debug(&(&credentials, &quotas));
    let (credentials, quotas) = (credentials.build(), quotas.build());
    witness.debug(&(&credentials, &quotas, credentials.handle(), quotas.handle()));
    M2mLayer::new(quotas, credentials)
}

/// Sends a request that gets no token, and shows all there is to show.
pub(crate) async fn fail(endpoint: TokenEndpoint, witness: &OutputLog) -> TokenError {
    let layer = observed(endpoint, witness);
    let (inner, calls) = serving(|_| std::future::ready(status_only(http::StatusCode::OK)));
    let service = layer.layer(inner);
    witness.debug(&service);

    let error = send(&service, get("/")).await.unwrap_err();

    assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 0);
    witness.error(&*error);
    let error = error.downcast::<TokenError>().unwrap();
    let tokens = layer.handle().tokens();
    witness.debug(&(&tokens, tokens.status(), layer.handle().quotas().status()));
    let remembered = tokens.token().await.unwrap_err();
    witness.error(&remembered);
    *error
}

const LONG: std::time::Duration = std::time::Duration::from_secs(300);
