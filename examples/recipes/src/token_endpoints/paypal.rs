//! PayPal: HTTP Basic with the id and the secret of a REST app.
//!
//! Source: <https://developer.paypal.com/api/rest/authentication/>, 2026-12.

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint, client_credentials::SecretSource};

/// Tokens for the live API; the sandbox is at `api-m.sandbox.paypal.com`.
pub fn endpoint(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let auth = ClientAuth::basic("client-id", secret);
    Ok(TokenEndpoint::new(
        "https://api-m.paypal.com/v1/oauth2/token".parse()?,
        auth,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, plain, refused};

    fn paypal() -> Vendor {
        let url = "https://api-m.paypal.com/v1/oauth2/token";
        Vendor::new(url, |asked| match asked.basic().as_str() {
            "client-id:secret" => {
                let token = json!({
                    "scope": "https://uri.paypal.com/services/invoicing", "access_token": "A21AAF",
                    "token_type": "Bearer", "app_id": "APP-80W284485P519543T", "expires_in": 31668,
                    "nonce": "2026-12-01T00:00:00ZaYZ",
                });
                (200, token)
            }
            _ => refused(401, "invalid_client"),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_token_serves_all_requests() {
        let token = paypal().serves(endpoint("secret").unwrap()).await;

        assert_eq!(token.member("app_id").unwrap(), "APP-80W284485P519543T");
    }

    #[tokio::test(start_paused = true)]
    async fn the_secret_in_the_form_is_refused() {
        let vendor = paypal();
        let post = plain(&vendor, ClientAuth::post("client-id", "secret"));

        assert_eq!(vendor.refuses_with(post).await, "invalid_client");
    }
}
