//! YoID (DIDx): a Keycloak realm with tokens of 300 s and no refresh token.
//!
//! `cargo run --example yoid` is the whole program, and also requests a token of the real realm.
//!
//! Source: the realm itself, as `Answer::keycloak` of `test_util` has it, 2026-12.

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint, client_credentials::SecretSource};

/// Tokens of the realm `product-hub`.
pub fn endpoint(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let url = "https://yoid.example.com/iam/realms/product-hub/protocol/openid-connect/token";
    Ok(TokenEndpoint::new(
        url.parse()?,
        ClientAuth::post("yoid-client", secret),
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;
    use tower_m2m::{
        ClientCredentialsLayer,
        test_util::{AcceptedAuth, Answer, Issuer},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_new_token_arrives_before_the_old_one_expires() {
        let realm = Issuer::builder()
            .client("yoid-client", "secret")
            .path("/iam/realms/product-hub/protocol/openid-connect/token")
            .accept([AcceptedAuth::Post])
            .answer(Answer::keycloak())
            .in_process();
        let endpoint = endpoint("secret").unwrap().service(realm.service());
        let api = "https://api.example.com".parse().unwrap();
        let tokens = ClientCredentialsLayer::builder(endpoint, api)
            .build()
            .handle();

        let first = tokens.token().await.unwrap();
        sleep(Duration::from_secs(200)).await;
        assert_eq!(
            tokens.token().await.unwrap().fingerprint(),
            first.fingerprint()
        );
        // In the last 30 s, with the old token still in use.
        sleep(Duration::from_secs(85)).await;
        assert_eq!(
            tokens.token().await.unwrap().fingerprint(),
            first.fingerprint()
        );
        sleep(Duration::from_secs(1)).await;
        assert_ne!(
            tokens.token().await.unwrap().fingerprint(),
            first.fingerprint()
        );
        assert_eq!(realm.stats().requests, 2);
    }
}
