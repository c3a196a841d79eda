//! Zoom: a server-to-server OAuth app, with the grant `account_credentials`.
//!
//! Source: <https://developers.zoom.us/docs/internal-apps/s2s-oauth/>, 2026-12.

use tower_m2m::{
    BoxError, ClientAuth, TokenEndpoint,
    client_credentials::{Grant, SecretSource},
};

/// Tokens of the account's owner.
pub fn endpoint(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let auth = ClientAuth::basic("client-id", secret);
    let grant = Grant::custom("account_credentials", [("account_id", "account-id")]);
    Ok(TokenEndpoint::new("https://zoom.us/oauth/token".parse()?, auth).grant(grant))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, plain, refused};

    fn zoom() -> Vendor {
        Vendor::new("https://zoom.us/oauth/token", |asked| {
            let grant = (asked.form("grant_type"), asked.form("account_id"));
            match (asked.basic().as_str(), (grant.0.as_str(), grant.1.as_str())) {
                ("client-id:secret", ("account_credentials", "account-id")) => {
                    let token = json!({
                        "access_token": "eyJ.zoom", "token_type": "bearer", "expires_in": 3600,
                        "scope": "user:read:user:admin", "api_url": "https://api.zoom.us",
                    });
                    (200, token)
                }
                ("client-id:secret", ("account_credentials", _)) => refused(400, "invalid_request"),
                ("client-id:secret", _) => refused(400, "unsupported_grant_type"),
                _ => refused(400, "invalid_client"),
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_token_of_the_account_serves_all_requests() {
        let token = zoom().serves(endpoint("secret").unwrap()).await;

        assert_eq!(token.member("api_url").unwrap(), "https://api.zoom.us");
    }

    #[tokio::test(start_paused = true)]
    async fn client_credentials_are_not_supported() {
        let vendor = zoom();
        let without = plain(&vendor, ClientAuth::basic("client-id", "secret"));

        assert_eq!(vendor.refuses_with(without).await, "unsupported_grant_type");
    }
}
