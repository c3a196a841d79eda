//! Keycloak: a client with *Client authentication* and *Service accounts roles* switched on.
//!
//! Keycloak ignores `audience`: an audience is a mapper of the client or of a client scope.
//!
//! Source: <https://www.keycloak.org/docs/latest/server_admin/#_service_accounts>, 2026-12.

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint, client_credentials::SecretSource};

/// Tokens of the realm `acme` for the client `orders`.
pub fn endpoint(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let url = "https://sso.example.com/realms/acme/protocol/openid-connect/token";
    // Keycloak's paths are the same for all realms; `TokenEndpoint::discover("https://sso.example.com/realms/acme", auth)` reads
    // them from the metadata instead.
    let auth = ClientAuth::basic("orders", secret);
    Ok(TokenEndpoint::new(url.parse()?, auth))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, plain, refused};

    fn keycloak() -> Vendor {
        let url = "https://sso.example.com/realms/acme/protocol/openid-connect/token";
        Vendor::new(url, |asked| match asked.basic().as_str() {
            // Form-encoded, as RFC 6749 §2.3.1 asks for.
            "orders:s%2Fcret" if asked.form("grant_type") == "client_credentials" => {
                let token = json!({
                    "access_token": "eyJ.keycloak", "expires_in": 300, "refresh_expires_in": 0,
                    "token_type": "Bearer", "not-before-policy": 0, "scope": "email profile",
                });
                (200, token)
            }
            _ => refused(401, "unauthorized_client"),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_token_of_the_service_account_serves_all_requests() {
        let token = keycloak().serves(endpoint("s/cret").unwrap()).await;

        assert_eq!(token.lifetime(), Some(Duration::from_secs(300)));
        assert_eq!(token.scope(), Some("email profile"));
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_encoding_of_rfc_6749_the_secret_is_refused() {
        let vendor = keycloak();
        let raw = plain(&vendor, ClientAuth::basic_raw("orders", "s/cret"));

        assert_eq!(vendor.refuses_with(raw).await, "unauthorized_client");
    }
}
