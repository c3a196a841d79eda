//! What sources give, when they are read, and what is done with it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::time::{Instant, sleep};
use tower_m2m::{
    ClientAuth,
    client_credentials::{
        Secret, SecretSource, SecretVariable, TokenError, TokenErrorKind, TokenEvent,
    },
};

use crate::{
    support::{
        SECOND,
        server::{self, Server},
    },
    world::Issuer,
};

#[tokio::test(start_paused = true)]
async fn a_hanging_source_falls_back_to_its_last_accepted_secret() {
    let issuer = Issuer::with_secrets(&["old"]);
    let reads = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reads);
    let tokens = issuer.layer(move || {
        let first = counter.fetch_add(1, SeqCst) == 0;
        async move {
            if !first {
                std::future::pending::<()>().await;
            }
            Ok("old".into())
        }
    });
    let handle = tokens.build().handle();
    handle.token().await.unwrap();
    let began = Instant::now();

    handle.refresh_now().await.unwrap();

    assert_eq!(began.elapsed(), 5 * SECOND);
    assert_eq!(reads.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_secret_rotated_during_a_rejection_is_reread_immediately() {
    let issuer = Issuer::with_secrets(&["new"]);
    let reads = AtomicUsize::new(0);
    let tokens = issuer.layer(move || {
        let first = reads.fetch_add(1, SeqCst) == 0;
        std::future::ready(Ok(if first { "old" } else { "new" }.into()))
    });

    tokens.build().handle().token().await.unwrap();

    assert_eq!(issuer.requests(), ["old", "new"]);
}

#[tokio::test(start_paused = true)]
async fn if_all_secrets_are_rejected_the_error_of_the_current_one_is_returned() {
    let issuer = Issuer::with_secrets(&["old"]);
    let secret = Arc::new(Mutex::new("old"));
    let source = Arc::clone(&secret);
    let tokens = issuer.layer(move || {
        let secret = *source.lock().unwrap();
        std::future::ready(Ok(secret.into()))
    });
    let handle = tokens.build().handle();
    handle.token().await.unwrap();
    handle.invalidate();
    *secret.lock().unwrap() = "newer";
    issuer.accept(&[]);

    let first = handle.token().await.unwrap_err();
    sleep(20 * SECOND).await;
    let second = handle.token().await.unwrap_err();

    assert_eq!(first.kind(), TokenErrorKind::InvalidClient);
    assert_eq!(second.consecutive_failures(), Some(1));
    assert_eq!(issuer.requests(), ["old", "newer", "old"]);
}

#[tokio::test(start_paused = true)]
async fn the_fallback_secret_expires_a_day_after_rotation() {
    let day = 24 * 3600 * SECOND;
    let issuer = Issuer::with_secrets(&["old"]);
    let secret = Arc::new(Mutex::new("old"));
    let source = Arc::clone(&secret);
    let tokens = issuer.layer(move || {
        let secret = *source.lock().unwrap();
        std::future::ready(Ok(secret.into()))
    });
    let handle = tokens.build().handle();
    handle.token().await.unwrap();
    // The old one may be of any age, as long as it is not replaced.
    sleep(2 * day).await;
    handle.refresh_now().await.unwrap();

    *secret.lock().unwrap() = "new";
    handle.refresh_now().await.unwrap();
    sleep(day - SECOND).await;
    handle.refresh_now().await.unwrap();
    let before = issuer.requests().len();
    sleep(SECOND).await;
    let late = handle.refresh_now().await.unwrap_err();

    assert_eq!(late.kind(), TokenErrorKind::InvalidClient);
    assert_eq!(issuer.requests()[before..], ["new"]);
}

#[tokio::test(start_paused = true)]
async fn during_a_permanent_backoff_the_secret_is_checked_every_five_seconds() {
    let issuer = Issuer::with_secrets(&["right"]);
    let secret = Arc::new(Mutex::new("wrong"));
    let reads = Arc::new(AtomicUsize::new(0));
    let (source, counter) = (Arc::clone(&secret), Arc::clone(&reads));
    let tokens = issuer.layer(move || {
        counter.fetch_add(1, SeqCst);
        let secret = *source.lock().unwrap();
        std::future::ready(Ok(secret.into()))
    });
    let handle = tokens.build().handle();

    handle.token().await.unwrap_err();
    let read = reads.load(SeqCst);
    for _ in 0..49 {
        sleep(SECOND / 10).await;
        handle.token().await.unwrap_err();
    }
    assert_eq!(reads.load(SeqCst), read);
    for _ in 0..20 {
        sleep(SECOND / 10).await;
        handle.token().await.unwrap_err();
    }
    assert_eq!(reads.load(SeqCst), read + 1);
    assert_eq!(issuer.requests(), ["wrong"]);

    *secret.lock().unwrap() = "right";
    sleep(4 * SECOND).await;

    handle.token().await.unwrap();
    assert_eq!(issuer.requests(), ["wrong", "right"]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_noticed_while_the_valid_token_is_still_in_use() {
    let issuer = Issuer::with_secrets(&["old"]);
    let secret = Arc::new(Mutex::new("old"));
    let source = Arc::clone(&secret);
    let tokens = issuer.layer(move || {
        let secret = *source.lock().unwrap();
        std::future::ready(Ok(secret.into()))
    });
    let handle = tokens.build().handle();
    handle.token().await.unwrap();
    issuer.accept(&["new"]);
    sleep(49 * SECOND).await;
    // Starts the early refresh, which is rejected.
    handle.token().await.unwrap();
    sleep(SECOND).await;
    *secret.lock().unwrap() = "new";
    sleep(5 * SECOND).await;

    handle.token().await.unwrap();
    sleep(SECOND).await;

    assert_eq!(issuer.requests(), ["old", "old", "new"]);
    assert_eq!(handle.token().await.unwrap().expose(), Some("token-2"));
}

#[tokio::test(start_paused = true)]
async fn an_unset_variable_is_named() {
    let name = env!("CARGO_PKG_NAME");
    let issuer = Issuer::with_secrets(&[name]);
    let set = issuer.layer(SecretVariable::new("CARGO_PKG_NAME"));
    let unset = issuer.layer(SecretVariable::new("TOWER_M2M_IS_NOT_SET"));

    set.build().handle().token().await.unwrap();
    let error = unset.build().handle().token().await.unwrap_err();

    assert_eq!(issuer.requests(), [name]);
    assert_eq!(
        (error.kind(), error.is_transient()),
        (TokenErrorKind::SecretUnavailable, false)
    );
    assert!(
        error.to_string().contains("TOWER_M2M_IS_NOT_SET"),
        "{error}"
    );
}

#[test]
fn an_async_closure_is_a_source() {
    fn source(source: impl SecretSource) -> ClientAuth {
        ClientAuth::post("id", source)
    }

    async fn read() -> Result<Secret, TokenError> {
        Ok("secret".into())
    }

    let name = String::from("captured");
    let printed = format!(
        "{:?} {:?}",
        source(read),
        source(move || {
            let name = name.clone();
            async move { Ok(name.into()) }
        })
    );
    assert!(!printed.contains("captured"), "{printed}");
}

#[tokio::test(start_paused = true)]
async fn a_403_without_a_body_falls_back_to_the_last_accepted_secret() {
    let server = Server::granting();
    let secret = Arc::new(Mutex::new("old"));
    let source = Arc::clone(&secret);
    let auth = ClientAuth::post("id", move || {
        let secret = *source.lock().unwrap();
        std::future::ready(Ok(secret.into()))
    });
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&events);
    let handle = server::layer(server.endpoint(auth))
        .on_event(move |event: &TokenEvent<'_>| {
            if let TokenEvent::FallbackSecretUsed { error, .. } = event {
                log.lock().unwrap().push(error.status().unwrap().as_u16());
            }
        })
        .build()
        .handle();
    handle.token().await.unwrap();
    *secret.lock().unwrap() = "new";
    let asked = AtomicUsize::new(0);
    server.answer(move |_| match asked.fetch_add(1, SeqCst) {
        0 => (403, String::new()),
        1 => (200, server::GRANTED.to_owned()),
        _ => (403, String::new()),
    });

    handle.refresh_now().await.unwrap();
    assert_eq!(secrets(&server), ["old", "new", "old"]);
    assert_eq!(*events.lock().unwrap(), [403]);

    // Both are rejected: the credentials are invalid.
    let refused = handle.refresh_now().await.unwrap_err();
    assert_eq!(secrets(&server)[3..], ["new", "old"]);
    assert_eq!(refused.kind(), TokenErrorKind::InvalidClient);
    assert!(!refused.is_transient() && refused.retry_after().unwrap() >= 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn credentials_rejected_twice_without_a_reason_back_off_permanently() {
    let server = Server::serving(|_| (403, String::new()));
    let handle = server::handle(server.endpoint(ClientAuth::post("id", "secret")));

    let first = handle.token().await.unwrap_err();
    sleep(2 * SECOND).await;
    let second = handle.token().await.unwrap_err();
    sleep(29 * SECOND).await;
    let third = handle.token().await.unwrap_err();

    assert!(first.is_transient() && first.retry_after().unwrap() <= 2 * SECOND);
    assert!(!second.is_transient() && second.retry_after().unwrap() >= 30 * SECOND);
    assert_eq!(third.consecutive_failures(), Some(2));
    assert_eq!(server.requests().len(), 2);
}

fn secrets(server: &Server) -> Vec<String> {
    let asked = server.requests().into_iter();
    asked
        .map(|asked| asked.form_value("client_secret").unwrap().to_owned())
        .collect()
}
