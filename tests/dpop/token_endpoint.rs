//! Proofs of token requests.

use serde_json::Value;
use tower_m2m::client_credentials::{BearerAnswer, Dpop, DpopKey, TokenErrorKind as Kind};

use crate::world::{BEGIN, World};

#[tokio::test(start_paused = true)]
async fn a_token_request_has_a_proof_and_the_token_is_bound_to_its_key() {
    let world = World::new();
    let key = DpopKey::generate().unwrap();
    let handle = world.layer(Dpop::key(key.clone())).build().handle();

    let token = handle.token().await.unwrap();

    assert_eq!(token.expose(), Some("token-1"));
    world.with(|state| {
        let (proof, _) = state.id_proofs.first().unwrap();
        assert_eq!(state.tokens["token-1"], key.thumbprint());
        assert_eq!(proof.thumbprint, key.thumbprint());
        assert_eq!(proof.header["jwk"], key.public_jwk());
        assert_eq!(proof.claims["iat"], BEGIN);
        assert_eq!(proof.claim("nonce"), None);
        assert!(!state.forms[0].contains("dpop_jkt"));
    });
}

#[tokio::test(start_paused = true)]
async fn a_nonce_that_the_server_requires_costs_one_request_and_is_kept() {
    let world = World::new();
    world.with(|state| state.id_nonce = Some("n-1".into()));
    let handle = world.layer(Dpop::generated()).build().handle();

    handle.token().await.unwrap();
    handle.refresh_now().await.unwrap();
    // Announced by a successful response: the next request has it from the start.
    world.with(|state| state.id_nonce = Some("n-2".into()));
    handle.refresh_now().await.unwrap();

    world.with(|state| {
        let nonces: Vec<_> = state
            .id_proofs
            .iter()
            .map(|(proof, accepted)| (proof.claim("nonce"), *accepted))
            .collect();
        assert_eq!(
            nonces,
            [
                (None, false),
                (Some("n-1"), true),
                (Some("n-1"), true),
                (Some("n-1"), false),
                (Some("n-2"), true),
            ]
        );
        assert_eq!(state.tokens.len(), 3);
    });
}

#[tokio::test(start_paused = true)]
async fn a_nonce_that_never_ends_is_an_error_after_three_requests() {
    let world = World::new();
    world.with(|state| (state.id_nonce, state.rotates) = (Some("n".into()), true));
    let layer = world.layer(Dpop::generated()).on_event(|event| {
        // Further proofs are no retries.
        assert!(!format!("{event:?}").contains("FetchRetrying"));
    });

    let error = layer.build().handle().token().await.unwrap_err();

    assert_eq!(world.with(|state| state.id_proofs.len()), 3);
    assert_eq!(error.kind(), Kind::Rejected);
    assert!(error.to_string().contains("DPoP nonce"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_nonce_is_not_sent_and_the_error_names_what_to_check() {
    let world = World::new();
    world.with(|state| state.id_nonce = Some("with a space".into()));
    let handle = world.layer(Dpop::generated()).build().handle();

    let error = handle.token().await.unwrap_err();

    assert_eq!(
        (error.kind(), error.oauth_error()),
        (Kind::Rejected, Some("use_dpop_nonce"))
    );
    assert!(error.to_string().contains("or sent none"), "{error}");
    assert_eq!(world.with(|state| state.id_proofs.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_proof_follows_the_servers_clock() {
    for ahead in [300, -300] {
        let world = World::new();
        world.with(|state| (state.ahead, state.dated) = (ahead, true));
        let handle = world.layer(Dpop::generated()).build().handle();

        handle.token().await.unwrap();
        handle.refresh_now().await.unwrap();

        // The first proof was wrong, and all others are right.
        let accepted = world.with(|state| {
            let accepted = state.id_proofs.iter().map(|(_, accepted)| *accepted);
            accepted.collect::<Vec<_>>()
        });
        assert_eq!(accepted, [false, true, true], "{ahead}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_an_hour_wrong_is_an_error_that_says_so() {
    let world = World::new();
    world.with(|state| (state.ahead, state.dated) = (3600, true));
    let handle = world.layer(Dpop::generated()).build().handle();

    let error = handle.token().await.unwrap_err();

    assert_eq!(
        (error.kind(), error.oauth_error()),
        (Kind::Rejected, Some("invalid_dpop_proof"))
    );
    assert!(
        error.to_string().contains("this machine's clock"),
        "{error}"
    );
    assert_eq!(world.with(|state| state.id_proofs.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bearer_token_is_refused_unless_a_setting_accepts_it() {
    for bearer in ["Bearer", "bearer"] {
        let world = World::new();
        world.with(|state| state.token_type = Some(bearer));

        let refused = world.layer(Dpop::generated()).build().handle();
        let error = refused.token().await.unwrap_err();

        assert_eq!(
            (error.kind(), error.is_transient()),
            (Kind::InvalidResponse, false)
        );
        assert!(
            error.to_string().contains("dpop_bound_access_tokens"),
            "{error}"
        );

        let accepting = Dpop::generated().on_bearer_answer(BearerAnswer::Accept);
        let accepting = world.layer(accepting).build().handle();
        assert_eq!(accepting.token().await.unwrap().expose(), Some("token-2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dpop_token_is_refused_by_a_client_of_bearer_tokens() {
    let server = crate::support::server::Server::serving(|_| {
        let token = r#"{"access_token":"canary","token_type":"DPoP","expires_in":300}"#;
        (200, token.to_owned())
    });
    let auth = tower_m2m::ClientAuth::basic("id", "secret");
    let handle = crate::support::server::handle(server.endpoint(auth));

    let error = handle.token().await.unwrap_err();

    assert_eq!(error.kind(), Kind::InvalidResponse);
    assert!(
        error.to_string().contains("`TokenEndpoint::dpop`"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_generated_key_is_replaced_with_its_token() {
    let world = World::new();
    let handle = world.layer(Dpop::generated()).build().handle();

    handle.token().await.unwrap();
    handle.refresh_now().await.unwrap();

    world.with(|state| assert_ne!(state.tokens["token-1"], state.tokens["token-2"]));
}

#[tokio::test(start_paused = true)]
async fn the_thumbprint_is_sent_where_a_server_wants_it() {
    let world = World::new();
    let key = DpopKey::generate().unwrap();
    let dpop = Dpop::key(key.clone()).jkt(true);

    world.layer(dpop).build().handle().token().await.unwrap();

    let form = world.with(|state| state.forms[0].clone());
    let jkt = format!("dpop_jkt={}", key.thumbprint());
    assert!(
        form.replace("%5F", "_").replace("%2D", "-").contains(&jkt),
        "{form}"
    );
    let public: Value = key.public_jwk();
    assert!(public.get("d").is_none());
}
