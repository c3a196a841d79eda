//! A token, or a credential of the caller, that the API rejects.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use http::{HeaderName, StatusCode, header};
use tokio::time::sleep;
use tower::Layer;
use tower_m2m::{
    Attempts, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer,
    client_credentials::{AccessToken, ExistingCredential, TokenError},
};

use crate::{
    callers::statuses,
    support::{
        Client, HOUR, SECOND, Source, api, get, layer, origin, post, send, serving, spawn,
        status_only,
    },
};

#[tokio::test(start_paused = true)]
async fn a_thousand_stale_401s_cause_one_token_request_and_all_succeed() {
    let source = Source::with_lifetime(HOUR);
    let slow = source.clone();
    let (inner, _) = serving(move |request| {
        // Each 401 comes at a time of its own, many of them after the new token.
        let answer = slow.answer(&request);
        let delay: u64 = request.uri().path()[1..].parse().unwrap();
        async move {
            sleep(Duration::from_millis(delay)).await;
            answer
        }
    });
    let service = layer(&source).build().layer(inner);
    send(&service, get("/0")).await.unwrap();
    source.revoke_all();
    let source = source.with_delay(SECOND / 10);

    let calls = (0..1_000).map(|n| spawn(&service, get(&format!("/{}", n + 1))));
    for call in calls.collect::<Vec<_>>() {
        let response = call.await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(Attempts::of(&response), 2);
    }

    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_always_says_401_costs_one_token_request_per_cooldown() {
    let source = Source::with_lifetime(HOUR);
    let (inner, _) = serving(|_| std::future::ready(status_only(StatusCode::UNAUTHORIZED)));
    let service = layer(&source).build().layer(inner);

    for _ in 0..600 {
        assert_eq!(
            send(&service, get("/")).await.unwrap().status(),
            StatusCode::UNAUTHORIZED
        );
        sleep(SECOND / 10).await;
    }

    // One at the start, one immediately, and then after 20 s and 40 s more.
    assert!((3..=4).contains(&source.fetches()), "{}", source.fetches());
}

#[tokio::test(start_paused = true)]
async fn a_token_issued_again_is_not_replayed() {
    let (inner, calls) = serving(|_| std::future::ready(status_only(StatusCode::UNAUTHORIZED)));
    let service = ClientCredentialsLayer::builder(AccessToken::new("api-key"), origin())
        .header(HeaderName::from_static("x-api-key"))
        .build()
        .layer(inner);

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_header_and_its_scheme_may_be_set_in_either_order() {
    for scheme_first in [true, false] {
        let key = HeaderName::from_static("x-api-key");
        let (inner, calls) = serving(|request| {
            let sent = request.headers().get("x-api-key").cloned();
            std::future::ready(status_only(
                match sent.as_ref().map(|value| value.as_bytes()) {
                    Some(b"Token secret") => StatusCode::OK,
                    _ => StatusCode::BAD_REQUEST,
                },
            ))
        });
        let builder = ClientCredentialsLayer::builder(AccessToken::new("secret"), origin());
        let builder = match scheme_first {
            true => builder.scheme("Token").header(key),
            false => builder.header(key).scheme("Token"),
        };

        let response = send(&builder.build().layer(inner), get("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK, "{scheme_first}");
        assert_eq!(calls.load(SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_401_unrelated_to_the_token_causes_no_refresh() {
    let source = Source::with_lifetime(HOUR);
    let (inner, calls) = serving(|_| {
        let mut response = status_only(StatusCode::UNAUTHORIZED);
        let scope = r#"Bearer error="insufficient_scope""#.parse().unwrap();
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, scope);
        std::future::ready(response)
    });
    let service = layer(&source).build().layer(inner);

    send(&service, get("/")).await.unwrap();

    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_403_is_never_treated_as_a_401() {
    let source = Source::with_lifetime(HOUR);
    let (inner, calls) = serving(|_| std::future::ready(status_only(StatusCode::FORBIDDEN)));
    let service = layer(&source).build().layer(inner);

    send(&service, get("/")).await.unwrap();

    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_kept_if_the_refresh_fails() {
    let source = Source::with_lifetime(HOUR);
    let revoked = source.clone();
    let service = layer(&source).build().layer(api(&source).0);
    statuses(&service, 1).await;
    source.fail_with(Some(TokenError::transient("is down")));
    revoked.revoke_all();

    let status = send(&service, get("/")).await.unwrap().status();
    let again = send(&service, get("/")).await.unwrap().status();

    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(again, StatusCode::UNAUTHORIZED);
    assert_eq!(source.fetches(), 2);
}

/// 200 requests a second, of which one is answered 401, while the issuer does not answer for a second and then fails.
async fn one_401_among_many(source: &Source, service: &impl Client) -> Vec<StatusCode> {
    send(service, get("/")).await.unwrap();
    source.fail_with(Some(TokenError::transient("is down")));
    let _slow = source.clone().with_delay(SECOND);
    let mut calls = Vec::new();
    for number in 0..600 {
        let path = if number == 100 { "/refused" } else { "/" };
        calls.push(spawn(service, get(path)));
        sleep(SECOND / 200).await;
    }
    let mut statuses = Vec::new();
    for call in calls {
        let response = call.await.unwrap().expect("a valid token is there");
        statuses.push(response.status());
    }
    statuses
}

#[tokio::test(start_paused = true)]
async fn callers_fall_back_to_the_valid_token_when_a_refresh_fails() {
    for combined in [false, true] {
        let source = Source::with_lifetime(HOUR);
        let valid = source.clone();
        let (inner, _) = serving(move |request| {
            let refused = request.uri().path() == "/refused";
            let answer = if refused {
                status_only(StatusCode::UNAUTHORIZED)
            } else {
                valid.answer(&request)
            };
            // Slower than the requests come: no success says that the token works for others.
            async move {
                sleep(SECOND).await;
                answer
            }
        });
        let credentials = layer(&source).build();
        let statuses = if combined {
            let layer = M2mLayer::new(RateLimitRetryLayer::new(), credentials);
            one_401_among_many(&source, &layer.layer(inner)).await
        } else {
            one_401_among_many(&source, &credentials.layer(inner)).await
        };

        let refused = |status: &&StatusCode| **status == StatusCode::UNAUTHORIZED;
        assert_eq!(statuses.iter().filter(refused).count(), 1);
        assert_eq!(statuses.len(), 600);
        assert_eq!(source.fetches(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_always_says_401_does_not_block_refreshes_for_others() {
    let source = Source::with_lifetime(HOUR);
    let valid = source.clone();
    let (inner, _) = serving(move |request| {
        let bad = request.uri().host() == Some("bad.example");
        std::future::ready(if bad {
            status_only(StatusCode::UNAUTHORIZED)
        } else {
            valid.answer(&request)
        })
    });
    let layer = layer(&source).allow_origin("https://bad.example".parse().unwrap());
    let service = layer.build().layer(inner);
    let bad = || {
        let mut request = get("/");
        *request.uri_mut() = "https://bad.example/".parse().unwrap();
        request
    };
    for _ in 0..1_300 {
        let (bad, good) = (send(&service, bad()).await, send(&service, get("/")).await);
        assert_eq!(bad.unwrap().status(), StatusCode::UNAUTHORIZED);
        assert_eq!(good.unwrap().status(), StatusCode::OK);
        sleep(SECOND).await;
    }
    // At 0 s, 20 s, 60 s, 140 s, 300 s, 620 s and 1,220 s, and the first one.
    let fetches = source.fetches();
    assert_eq!(fetches, 8);

    source.revoke_all();
    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(source.fetches(), fetches + 1);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_refreshed_on_a_401_for_another_scheme() {
    // As Django REST framework does, whose first authentication class names the scheme.
    let source = Source::with_lifetime(HOUR);
    let valid = source.clone();
    let (inner, calls) = serving(move |request| {
        let basic_only = request.uri().path() == "/basic";
        let accepted = !basic_only && valid.accepts(&request);
        let mut response = valid.answer(&request);
        if !accepted {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let basic = r#"Basic realm="api""#.parse().unwrap();
            let challenge = header::WWW_AUTHENTICATE;
            response.headers_mut().insert(challenge, basic);
        }
        std::future::ready(response)
    });
    let service = layer(&source).build().layer(inner);
    let status = async |path| send(&service, get(path)).await.unwrap().status();

    // Never accepted there: another token of the same kind is no use.
    assert_eq!(status("/basic").await, StatusCode::UNAUTHORIZED);
    assert_eq!((source.fetches(), calls.load(SeqCst)), (1, 1));
    assert_eq!(status("/").await, StatusCode::OK);
    sleep(SECOND).await;
    source.revoke_all();

    assert_eq!(status("/").await, StatusCode::OK);
    assert_eq!((source.fetches(), calls.load(SeqCst)), (2, 4));
    // A resource with another scheme costs one renewal, and no more for ten minutes.
    for _ in 0..60 {
        sleep(10 * SECOND).await;
        assert_eq!(status("/basic").await, StatusCode::UNAUTHORIZED);
        assert_eq!(status("/").await, StatusCode::OK);
    }
    assert_eq!(source.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_maximum_cooldown_does_not_overflow() {
    let source = Source::with_lifetime(HOUR);
    let (inner, _) = serving(|_| std::future::ready(status_only(StatusCode::UNAUTHORIZED)));
    let longest = Duration::MAX;
    let layer = layer(&source)
        .refresh_before(longest)
        .fetch_timeout(longest)
        .max_token_backoff(longest)
        .refresh_cooldown(longest);
    let service = layer.build().layer(inner);

    for _ in 0..5 {
        let status = send(&service, get("/")).await.unwrap().status();
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        sleep(SECOND).await;
    }

    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_non_replayable_body_is_sent_once_and_the_token_refreshed() {
    let source = Source::with_lifetime(HOUR);
    let (inner, calls) = api(&source);
    let service = layer(&source).replay(false).build().layer(inner);
    statuses(&service, 1).await;
    source.revoke_all();

    let first = send(&service, post("/")).await.unwrap().status();
    sleep(SECOND).await;
    let second = send(&service, post("/")).await.unwrap().status();

    assert_eq!(first, StatusCode::UNAUTHORIZED);
    assert_eq!(second, StatusCode::OK);
    assert_eq!(calls.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_callers_credential_is_replaced_kept_or_rejected() {
    let source = Source::with_lifetime(HOUR);
    let (inner, _) = serving(|request| {
        let theirs = request.headers()[header::AUTHORIZATION] == "Basic theirs";
        let mut response = status_only(StatusCode::UNAUTHORIZED);
        if !theirs {
            *response.status_mut() = StatusCode::OK;
        }
        std::future::ready(response)
    });
    let with = |existing| {
        let layer = layer(&source).on_existing_credential(existing).build();
        layer.layer(inner.clone())
    };
    let request = || {
        let mut request = get("/");
        let theirs = "Basic theirs".parse().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, theirs);
        request
    };

    let replaced = send(&with(ExistingCredential::Replace), request()).await;
    let kept = send(&with(ExistingCredential::Keep), request()).await;
    let refused = send(&with(ExistingCredential::Refuse), request()).await;

    assert_eq!(replaced.unwrap().status(), StatusCode::OK);
    assert_eq!(kept.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert!(refused.is_err());
    // The kept credential's 401 did not touch our token: it was never fetched there.
    assert_eq!(source.fetches(), 1);
}
