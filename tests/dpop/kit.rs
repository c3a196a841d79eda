//! The doubles of the test kit with proofs.

use http::{Request, StatusCode};
use tower::Layer;
use tower_m2m::{
    Attempts, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{Dpop, DpopKey, TokenErrorKind as Kind},
    test_util::{Api, DpopProof, Issuer, TestClock},
};

use crate::support::{Body, Client, HOUR, in_full, send};

/// An issuer and an API, and a client with proofs of `key`.
fn world(key: &DpopKey) -> (Issuer, Api, impl Client) {
    let issuer = Issuer::builder()
        .client("id", "secret")
        .dpop_bound_access_tokens(true)
        .in_process();
    let api = Api::builder().tokens(issuer.tokens()).in_process();
    let layer = ClientCredentialsLayer::builder(
        endpoint(&issuer).dpop(Dpop::key(key.clone())),
        api.origin().parse().unwrap(),
    );
    let layer = layer.clock(TestClock::new());
    let client = layer.build().layer(in_full(api.service()));
    (issuer, api, client)
}

fn endpoint(issuer: &Issuer) -> TokenEndpoint {
    let auth = ClientAuth::basic("id", "secret");
    TokenEndpoint::new(issuer.token_url().parse().unwrap(), auth).service(issuer.service())
}

fn get(path: &str) -> Request<Body> {
    let url = format!("https://api.test{path}");
    Request::get(url).body(Body::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_token_is_bound_to_the_key_and_accepted_with_its_proofs_only() {
    let key = DpopKey::generate().unwrap();
    let (issuer, api, client) = world(&key);

    let response = send(&client, get("/orders?page=2")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    let request = &api.requests()[0];
    let authorization = request.authorization().unwrap();
    let token = authorization.strip_prefix("DPoP ").unwrap();
    assert_eq!(
        issuer.tokens().jkt(token).as_deref(),
        Some(key.thumbprint())
    );
    let proof = DpopProof::verify(request.header("dpop").unwrap()).unwrap();
    assert_eq!(proof.thumbprint, key.thumbprint());
    assert_eq!(proof.claim("htu"), Some("https://api.test/orders"));

    // Stolen: as a bearer token, without a proof, and with one that was used.
    let steal = async |authorization: String, proof: Option<&str>| {
        let mut request = get("/orders");
        let headers = request.headers_mut();
        headers.insert("authorization", authorization.parse().unwrap());
        if let Some(proof) = proof {
            headers.insert("dpop", proof.parse().unwrap());
        }
        let response = send(&in_full(api.service()), request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let challenge = response.headers()["www-authenticate"].to_str().unwrap();
        challenge.split('"').nth(1).unwrap().to_owned()
    };
    let dpop = format!("DPoP {token}");
    assert_eq!(
        steal(format!("Bearer {token}"), None).await,
        "invalid_token"
    );
    assert_eq!(steal(dpop.clone(), None).await, "invalid_dpop_proof");
    let used = request.header("dpop");
    assert_eq!(steal(dpop, used).await, "invalid_dpop_proof");
}

#[tokio::test(start_paused = true)]
async fn both_doubles_hand_out_nonces() {
    let (issuer, api, client) = world(&DpopKey::generate().unwrap());
    issuer.set_dpop_nonce(Some("i-1".into()));
    api.set_dpop_nonce(Some("a-1".into()));

    let first = send(&client, get("/")).await.unwrap();
    let second = send(&client, get("/")).await.unwrap();

    assert_eq!((Attempts::of(&first), Attempts::of(&second)), (2, 1));
    let seen = issuer.stats();
    assert_eq!((seen.requests, seen.rejected, seen.issued), (2, 1, 1));
    api.set_dpop_nonce(Some("a-2".into()));
    assert_eq!(Attempts::of(&send(&client, get("/")).await.unwrap()), 2);
    assert_eq!(api.stats().unauthorized, 2);
}

#[tokio::test(start_paused = true)]
async fn proofs_stay_valid_while_the_paused_clock_advances() {
    let (issuer, api, client) = world(&DpopKey::generate().unwrap());
    send(&client, get("/")).await.unwrap();
    tokio::time::sleep(HOUR).await;

    let late = send(&client, get("/")).await.unwrap();

    assert_eq!(late.status(), StatusCode::OK);
    assert_eq!(issuer.stats().issued, 2);
    assert_eq!(api.stats().unauthorized, 0);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_binds_every_token_rejects_a_request_without_a_proof() {
    let (issuer, _, _) = world(&DpopKey::generate().unwrap());
    let origin = "https://api.test".parse().unwrap();
    let bearer = ClientCredentialsLayer::builder(endpoint(&issuer), origin).build();

    let error = bearer.handle().prefetch().await.unwrap_err();

    assert_eq!(error.oauth_error(), Some("invalid_dpop_proof"));
    assert_eq!(error.error_description(), Some("there is no proof"));
    assert!(!matches!(error.kind(), Kind::Server));
}
