//! Okta: a secret for a custom authorization server, and a key for Okta's own APIs.
//!
//! A custom authorization server issues tokens for your API, and requires a scope of its own. Okta's own APIs accept only
//! tokens of the org authorization server, which requires `private_key_jwt`.
//!
//! Sources: <https://developer.okta.com/docs/guides/implement-grant-type/clientcreds/main/>,
//! <https://developer.okta.com/docs/guides/implement-oauth-for-okta-serviceapp/main/>, 2026-12.

use tower_m2m::{
    BoxError, ClientAuth, TokenEndpoint,
    client_credentials::{AssertionAudience, KeyAlgorithm, SecretSource, SigningKey},
};

/// Tokens of the custom authorization server `default`.
pub fn custom_server(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let url = "https://acme.okta.com/oauth2/default/v1/token";
    let auth = ClientAuth::basic("client-id", secret);
    // Required: there is no default scope.
    Ok(TokenEndpoint::new(url.parse()?, auth).scope("orders.read"))
}

/// Tokens for Okta's own APIs, of a service app with a public key.
pub fn okta_apis(private_key: &str) -> Result<TokenEndpoint, BoxError> {
    // The id of the key in the JWKS of the app.
    let key = SigningKey::pem(KeyAlgorithm::Rs256, private_key)?.with_key_id("2026-12");
    let auth = ClientAuth::private_key_jwt("client-id", key);
    let endpoint = TokenEndpoint::new("https://acme.okta.com/oauth2/v1/token".parse()?, auth)
        // Okta documents the URL of the endpoint, not the issuer.
        .assertion_audience(AssertionAudience::TokenEndpoint)
        .scope("okta.users.read");
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::double::{Answer, KEY, Vendor, plain, refused, verified};

    const ORG: &str = "https://acme.okta.com/oauth2/v1/token";

    fn granted(scope: &str) -> Answer {
        let token = json!({
            "token_type": "Bearer", "expires_in": 3600, "access_token": "eyJ.okta", "scope": scope,
        });
        (200, token)
    }

    fn custom() -> Vendor {
        let url = "https://acme.okta.com/oauth2/default/v1/token";
        Vendor::new(url, |asked| {
            match (asked.basic().as_str(), asked.form("scope").as_str()) {
                ("client-id:secret", "orders.read") => granted("orders.read"),
                ("client-id:secret", _) => refused(400, "invalid_scope"),
                _ => refused(401, "invalid_client"),
            }
        })
    }

    fn org() -> Vendor {
        Vendor::new(ORG, |asked| {
            let assertion = verified(&asked.form("client_assertion"));
            let accepted = assertion.is_some_and(|(header, claims)| {
                header["kid"] == "2026-12"
                    && claims["iss"] == "client-id"
                    && claims["sub"] == "client-id"
                    && claims["aud"] == ORG
            });
            match accepted {
                true => granted(&asked.form("scope")),
                false => refused(401, "invalid_client"),
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_custom_server_grants_its_scope_for_a_secret() {
        custom().serves(custom_server("secret").unwrap()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_scope_a_custom_server_refuses() {
        let vendor = custom();
        let without = plain(&vendor, ClientAuth::basic("client-id", "secret"));

        assert_eq!(vendor.refuses_with(without).await, "invalid_scope");
    }

    #[tokio::test(start_paused = true)]
    async fn the_org_server_grants_okta_scopes_for_a_key() {
        let token = org().serves(okta_apis(KEY).unwrap()).await;

        assert_eq!(token.scope(), Some("okta.users.read"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_org_server_refuses_a_secret_and_the_issuer_as_audience() {
        let vendor = org();
        let secret = plain(&vendor, ClientAuth::basic("client-id", "secret"));
        let issuer = okta_apis(KEY).unwrap();
        let issuer = issuer.assertion_audience("https://acme.okta.com".to_owned());

        assert_eq!(vendor.refuses_with(secret).await, "invalid_client");
        assert_eq!(vendor.refuses_with(issuer).await, "invalid_client");
    }
}
