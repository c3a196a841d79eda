//! Keys that sign, and what they sign.

use std::sync::{Arc, Mutex};

use http::Response;
use http_body_util::{BodyExt, Full};
use tower::service_fn;
use tower_m2m::{
    BoxError, ClientAuth, TokenEndpoint,
    client_credentials::{KeyAlgorithm, SigningKey, TokenErrorKind},
};

use super::{
    endpoint::fail,
    output_log::{OutputLog, assert_log_is_clean, listen},
    search::{SECRETS, find_any},
    support::Body,
};

const PEM: &str = include_str!("../keys/ec.pem");
const JWK: &str = include_str!("../keys/ec.jwk");

#[test]
fn debug_output_of_a_key_hides_it() {
    let witness = OutputLog::default();
    for key in [
        SigningKey::pem(KeyAlgorithm::Es256, PEM).unwrap(),
        SigningKey::jwk(KeyAlgorithm::Es256, JWK).unwrap(),
    ] {
        witness.debug(&key);
        witness.debug(&ClientAuth::private_key_jwt("id", key));
    }
    assert_no_key(&witness);
}

#[test]
fn invalid_keys_are_not_shown_in_errors() {
    let witness = OutputLog::default();
    for algorithm in [
        KeyAlgorithm::Rs256,
        KeyAlgorithm::Es384,
        KeyAlgorithm::EdDsa,
    ] {
        witness.error(&SigningKey::pem(algorithm, PEM).unwrap_err());
        witness.error(&SigningKey::jwk(algorithm, JWK).unwrap_err());
    }
    for cut in [PEM.len() / 3, PEM.len() / 2, PEM.len() - 40] {
        witness.error(&SigningKey::pem(KeyAlgorithm::Es256, &PEM[..cut]).unwrap_err());
        witness.error(&SigningKey::pem(KeyAlgorithm::Es256, &PEM[cut..]).unwrap_err());
    }
    let number = JWK.replacen("\"d\": \"", "\"d\": 12345678, \"e\": \"", 1);
    assert_ne!(number, JWK);
    for jwk in [&JWK[..JWK.len() - 2], &number] {
        witness.error(&SigningKey::jwk(KeyAlgorithm::Es256, jwk).unwrap_err());
    }
    assert_no_key(&witness);
    witness.assert_clean("keys");
}

#[tokio::test(start_paused = true)]
async fn an_assertion_echoed_by_the_server_is_redacted() {
    listen();
    let key = SigningKey::pem(KeyAlgorithm::Es256, PEM).unwrap();
    for auth in [
        ClientAuth::private_key_jwt("id", key),
        ClientAuth::client_secret_jwt("id", SECRETS[0]),
    ] {
        for status in [200, 400, 401, 500] {
            let witness = OutputLog::default();
            let sent = Arc::new(Mutex::new(String::new()));
            let seen = Arc::clone(&sent);
            let server = service_fn(move |request: http::Request<Full<bytes::Bytes>>| {
                let seen = Arc::clone(&seen);
                async move {
                    let form = request.into_body().collect().await?.to_bytes();
                    let form = String::from_utf8(form.to_vec())?;
                    let (_, assertion) = form.split_once("client_assertion=").unwrap();
                    let assertion = assertion.split('&').next().unwrap();
                    assert_eq!(assertion.split('.').count(), 3);
                    *seen.lock().unwrap() = assertion.to_owned();
                    let answer = serde_json::json!({
                        "error": format!("bad: {assertion}"), "error_description": format!("{form} {assertion}"),
                    });
                    let response = Response::builder().status(status);
                    Ok::<_, BoxError>(response.body(Body::from(answer.to_string()))?)
                }
            });
            let endpoint =
                TokenEndpoint::new("https://id.example/token".parse().unwrap(), auth.clone())
                    .issuer("https://id.example")
                    .service(server);

            let error = fail(endpoint, &witness).await;

            assert_ne!(error.kind(), TokenErrorKind::Configuration, "{error}");
            let sent = sent.lock().unwrap().clone();
            let shown = witness.output();
            assert_eq!(find_any(&shown, sent.split('.')), None, "{shown}");
            witness.assert_clean("assertion");
            assert_no_key(&witness);
        }
    }
    let log = assert_log_is_clean();
    assert_eq!(find_any(&log, private_parts()), None);
}

#[cfg(feature = "dpop")]
#[tokio::test(start_paused = true)]
async fn a_proof_echoed_by_the_server_is_redacted() {
    use tower_m2m::client_credentials::{Dpop, DpopKey};

    listen();
    let key = SigningKey::pem(KeyAlgorithm::Es256, PEM).unwrap();
    let dpop = Dpop::key(DpopKey::new(key).unwrap());
    for status in [200, 400, 401, 500] {
        let witness = OutputLog::default();
        witness.debug(&dpop);
        let sent = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&sent);
        let server = service_fn(move |request: http::Request<Full<bytes::Bytes>>| {
            let proof = request.headers()["dpop"].to_str().unwrap().to_owned();
            *seen.lock().unwrap() = proof.clone();
            async move {
                let answer = serde_json::json!({
                    "error": format!("bad: {proof}"), "error_description": format!("no {proof}!"),
                });
                let response = Response::builder().status(status);
                Ok::<_, BoxError>(response.body(Body::from(answer.to_string()))?)
            }
        });
        let uri = "https://id.example/token".parse().unwrap();
        let endpoint = TokenEndpoint::new(uri, ClientAuth::none("id"))
            .service(server)
            .dpop(dpop.clone());

        fail(endpoint, &witness).await;

        let sent = sent.lock().unwrap().clone();
        let shown = witness.output();
        assert_eq!(find_any(&shown, sent.split('.').skip(1)), None, "{shown}");
        assert!(!shown.contains(&sent), "{shown}");
        assert_no_key(&witness);
    }
    let log = assert_log_is_clean();
    assert_eq!(find_any(&log, private_parts()), None);
}

#[cfg(feature = "dpop")]
#[tokio::test(start_paused = true)]
async fn a_proof_echoed_by_an_api_is_redacted() {
    use http::{StatusCode, header};
    use tower::Layer;
    use tower_m2m::client_credentials::{
        AccessToken, DpopKey, FetchContext, TokenError, TokenSource,
    };

    use super::{
        api::{api, layer},
        search::TOKEN,
        support::{get, send, status_only},
    };

    /// Issues bound tokens, and prints the context of each fetch.
    struct BoundSource(DpopKey, OutputLog);

    impl TokenSource for BoundSource {
        async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
            self.1.debug(&cx);
            for challenge in cx
                .rejected()
                .into_iter()
                .flat_map(|token| token.challenges())
            {
                self.1.debug(challenge);
                for text in [challenge.error_description(), challenge.realm()] {
                    self.1.text(text.unwrap_or_default());
                }
            }
            let token = AccessToken::new(TOKEN).bound_to(self.0.clone());
            self.1.debug(&token);
            Ok(token)
        }
    }

    listen();
    let key = SigningKey::pem(KeyAlgorithm::Es256, PEM).unwrap();
    let key = DpopKey::new(key).unwrap();
    for echo in [
        |proof: &str| format!("DPoP error=\"invalid_token\", error_description=\"no {proof}!\""),
        |proof: &str| format!("DPoP error=\"invalid_dpop_proof\", realm=\"{proof}\""),
    ] {
        let witness = OutputLog::default();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sent);
        let inner = api(&witness, move |request| {
            let proof = request.headers()["dpop"].clone();
            assert!(proof.is_sensitive());
            let proof = proof.to_str().unwrap().to_owned();
            let mut response = status_only(StatusCode::UNAUTHORIZED);
            let challenge = echo(&proof).parse().unwrap();
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
            seen.lock().unwrap().push(proof);
            response
        });
        let source = BoundSource(key.clone(), witness.clone());
        let layer = layer(source, &witness, |builder| builder);

        let response = send(&layer.layer(inner), get("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let shown = witness.output();
        let sent = sent.lock().unwrap();
        assert!(!sent.is_empty());
        for proof in sent.iter() {
            // The header and the public key are no secret; claims and signature together are the proof.
            assert_eq!(find_any(&shown, proof.split('.').skip(1)), None, "{shown}");
        }
        assert_no_key(&witness);
        witness.assert_clean("proof");
    }
    let log = assert_log_is_clean();
    assert_eq!(find_any(&log, private_parts()), None);
}

#[tokio::test(start_paused = true)]
async fn a_signed_grant_echoed_by_the_server_is_redacted() {
    use tower_m2m::client_credentials::{AssertionClaims, Grant};

    listen();
    for status in [200, 400, 401, 500] {
        let witness = OutputLog::default();
        let sent = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&sent);
        let server = service_fn(move |request: http::Request<Full<bytes::Bytes>>| {
            let seen = Arc::clone(&seen);
            async move {
                let form = request.into_body().collect().await?.to_bytes();
                let form = String::from_utf8(form.to_vec())?;
                let assertion = form
                    .split('&')
                    .find_map(|pair| pair.strip_prefix("assertion="));
                let assertion = assertion.unwrap();
                *seen.lock().unwrap() = assertion.to_owned();
                let answer = serde_json::json!({
                    "error": format!("bad: {assertion}"), "error_description": format!("{form} {assertion}"),
                });
                let response = Response::builder().status(status);
                Ok::<_, BoxError>(response.body(Body::from(answer.to_string()))?)
            }
        });
        let key = SigningKey::pem(KeyAlgorithm::Es256, PEM).unwrap();
        let uri = "https://id.example/token".parse().unwrap();
        let endpoint = TokenEndpoint::new(uri, ClientAuth::none("id"))
            .issuer("https://id.example")
            .grant(Grant::signed_jwt(key, AssertionClaims::new("id")))
            .service(server);

        fail(endpoint, &witness).await;

        let sent = sent.lock().unwrap().clone();
        assert_eq!(sent.split('.').count(), 3);
        let shown = witness.output();
        assert_eq!(find_any(&shown, sent.split('.')), None, "{shown}");
        assert_no_key(&witness);
    }
    let log = assert_log_is_clean();
    assert_eq!(find_any(&log, private_parts()), None);
}

#[cfg(feature = "https")]
#[tokio::test]
async fn certificates_and_proxies_hide_their_secrets() {
    use tower_m2m::client_credentials::{CertificateBound, Proxy, Secret};

    listen();
    let key = include_str!("../certificates/client.key");
    // A file, a key in place of a certificate, and a certificate that does not match.
    for (chain, key, api) in [
        ("/nowhere", key, ""),
        (key, key, key),
        (include_str!("../certificates/server.pem"), key, key),
        (include_str!("../certificates/client.pem"), PEM, "half"),
    ] {
        let witness = OutputLog::default();
        let bound = CertificateBound::new().api_certificate(api);
        let proxy = Proxy::new(Secret::from(format!(
            "socks5://{}:{}@proxy",
            SECRETS[0], SECRETS[1]
        )));
        witness.debug(&bound);
        witness.debug(&proxy);
        let uri = "https://id.example/token".parse().unwrap();
        let endpoint = TokenEndpoint::new(uri, ClientAuth::tls("id"))
            .client_certificate(chain, key)
            .certificate_bound(bound);

        fail(endpoint.clone(), &witness).await;
        fail(endpoint.proxy(proxy), &witness).await;

        let shown = witness.output();
        let parts = key.lines().filter(|line| !line.starts_with('-'));
        assert_eq!(find_any(&shown, parts), None, "{shown}");
        witness.assert_clean("certificates");
    }
    assert_log_is_clean();
}

#[test]
fn key_files_and_claims_hide_their_secrets() {
    use tower_m2m::client_credentials::{AssertionClaims, Grant};

    let witness = OutputLog::default();
    let key = SigningKey::pem(KeyAlgorithm::Es256, PEM).unwrap();
    let claims = AssertionClaims::new("id").claim("secret", SECRETS[0]);
    witness.debug(&claims);
    witness.debug(&Grant::signed_jwt(key, claims));
    witness.debug(&Grant::custom("apikey", [("apikey", SECRETS[0])]));
    assert_no_key(&witness);
    witness.assert_clean("claims");
}

fn assert_no_key(witness: &OutputLog) {
    let shown = witness.output();
    assert_eq!(find_any(&shown, private_parts()), None, "{shown}");
}

/// The lines of the PEM and the private member of the JWK.
fn private_parts() -> impl Iterator<Item = &'static str> {
    let lines = PEM
        .lines()
        .filter(|line| !line.starts_with("--") && line.len() >= 8);
    let (_, d) = JWK.split_once("\"d\": \"").unwrap();
    lines.chain(d.split('"').next())
}
