//! Failures after which the token request is retried immediately.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use http::{Request, StatusCode};
use tokio::time::Instant;
use tower::{ServiceExt, service_fn};
use tower_m2m::{
    BoxError, ClientAuth, TokenEndpoint, client_credentials::TokenEvent, test_util::Fault,
};

use crate::{
    support::{Body, server},
    world::{MILLISECOND, endpoint, handle, issuer, layer},
};

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_hidden_from_callers() {
    for fault in [
        Fault::Reset,
        Fault::status(StatusCode::BAD_GATEWAY),
        Fault::status(StatusCode::SERVICE_UNAVAILABLE),
        Fault::status(StatusCode::GATEWAY_TIMEOUT),
    ] {
        for times in 1..=2 {
            let issuer = issuer();
            (0..times).for_each(|_| issuer.next(fault.clone()));
            let handle = handle(&issuer);
            let began = Instant::now();

            let callers = (0..1_000).map(|_| {
                let handle = handle.clone();
                tokio::spawn(async move { handle.token().await })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await.unwrap().unwrap();
            }

            assert_eq!(issuer.stats().requests, times + 1, "{fault:?}");
            assert!(began.elapsed() <= times as u32 * 750 * MILLISECOND);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_retried() {
    let issuer = issuer();
    let refused = Arc::new(Mutex::new(Vec::new()));
    let (service, log) = (issuer.service(), Arc::clone(&refused));
    let flaky = service_fn(move |request: Request<Body>| {
        let service = service.clone();
        let log = Arc::clone(&log);
        async move {
            let first = {
                let mut log = log.lock().unwrap();
                log.push(Instant::now());
                log.len() == 1
            };
            if first {
                return Err(BoxError::from(io::Error::from(
                    io::ErrorKind::ConnectionRefused,
                )));
            }
            service.oneshot(request).await
        }
    });
    let endpoint = endpoint(&issuer, "secret").service(flaky);

    layer(endpoint).build().handle().token().await.unwrap();

    let at = refused.lock().unwrap();
    let waited = at[1] - at[0];
    assert!(
        (250 * MILLISECOND..=500 * MILLISECOND).contains(&waited),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hanging_request_is_retried_after_half_of_the_timeout() {
    let issuer = issuer();
    issuer.next(Fault::Hang);
    let began = Instant::now();

    handle(&issuer).token().await.unwrap();

    assert_eq!(began.elapsed().as_secs(), 15);
    assert_eq!(issuer.stats().requests, 2);
}

#[tokio::test(start_paused = true)]
async fn each_retry_is_reported() {
    let issuer = issuer();
    issuer.next(Fault::Reset);
    issuer.next(Fault::status(StatusCode::BAD_GATEWAY));
    issuer.next(Fault::status(StatusCode::GATEWAY_TIMEOUT));
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&events);
    let handle = layer(endpoint(&issuer, "secret").service(issuer.service()))
        .on_event(move |event: &TokenEvent<'_>| {
            log.lock().unwrap().push(match event {
                TokenEvent::FetchStarted { .. } => "started".to_owned(),
                TokenEvent::FetchRetrying { attempt, error, .. } => {
                    assert!(
                        error
                            .to_string()
                            .contains("https://issuer.test/oauth/token")
                    );
                    format!("attempt {attempt}: {:?}", error.kind())
                }
                TokenEvent::FetchFailed { error, .. } => format!("failed: {:?}", error.status()),
                other => format!("{other:?}"),
            });
        })
        .build()
        .handle();

    handle.token().await.unwrap_err();

    assert_eq!(
        *events.lock().unwrap(),
        [
            "started",
            "attempt 1: Transport",
            "attempt 2: Server",
            "failed: Some(504)"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_authenticated_again() {
    let issuer = issuer();
    issuer.next(Fault::Reset);
    issuer.next(Fault::Reset);
    let reads = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reads);
    let endpoint = endpoint(&issuer, move || {
        counter.fetch_add(1, SeqCst);
        std::future::ready(Ok("secret".into()))
    });

    let handle = layer(endpoint.service(issuer.service())).build().handle();
    handle.token().await.unwrap();

    assert_eq!(reads.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_during_discovery_is_hidden_from_callers() {
    const METADATA: &str = "https://id.example/.well-known/oauth-authorization-server";
    let asked = AtomicUsize::new(0);
    let server = server::Server::serving(move |url| match url {
        METADATA if asked.fetch_add(1, SeqCst) == 0 => (502, String::new()),
        METADATA => {
            let metadata =
                r#"{"issuer":"https://id.example","token_endpoint":"https://id.example/token"}"#;
            (200, metadata.to_owned())
        }
        _ => (200, server::GRANTED.to_owned()),
    });
    let auth = ClientAuth::basic("id", "secret");
    let endpoint = TokenEndpoint::discover("https://id.example", auth).service(server.service());

    server::handle(endpoint).token().await.unwrap();

    assert_eq!(server.urls(), [METADATA, METADATA, server::TOKEN_URL]);
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_before_the_fallback_secret_is_retried() {
    let issuer = issuer();
    let secret = Arc::new(Mutex::new("secret"));
    let source = Arc::clone(&secret);
    let endpoint = endpoint(&issuer, move || {
        let secret = *source.lock().unwrap();
        std::future::ready(Ok(secret.into()))
    });
    let handle = layer(endpoint.service(issuer.service())).build().handle();
    handle.token().await.unwrap();
    *secret.lock().unwrap() = "too new";
    issuer.next(Fault::oauth_error("invalid_client"));
    issuer.next(Fault::Reset);

    handle.refresh_now().await.unwrap();

    let asked = issuer.requests();
    let secrets = asked
        .iter()
        .map(|asked| asked.parameter("client_secret").unwrap());
    assert!(secrets.eq(["secret", "too new", "secret", "secret"]));
}

#[tokio::test(start_paused = true)]
async fn an_error_reports_requests_and_elapsed_time() {
    let issuer = issuer();
    issuer.always(Some(Fault::status(StatusCode::BAD_GATEWAY)));
    let handle = handle(&issuer);

    let first = handle.token().await.unwrap_err();
    tokio::time::sleep(2 * 1000 * MILLISECOND).await;
    let second = handle.token().await.unwrap_err();

    assert_eq!(issuer.stats().requests, 6);
    // 250 ms to 500 ms and 500 ms to 1 s between the three.
    let text = first.to_string();
    let seconds = ["failing for 1 s", "failing for 2 s"];
    assert!(text.contains("[attempt 3, "), "{text}");
    assert!(
        seconds.iter().any(|seconds| text.contains(seconds)),
        "{text}"
    );
    assert!(second.to_string().contains("[attempt 6, "), "{second}");
    assert_eq!(
        (first.consecutive_failures(), second.consecutive_failures()),
        (Some(1), Some(2))
    );
    assert!(format!("{first:?}").contains(&text), "{first:?}");
}
