//! Amazon Cognito: an app client with a secret and custom scopes, in a user pool with a domain.
//!
//! The response names no scope, and Cognito charges for each token.
//!
//! Source: <https://docs.aws.amazon.com/cognito/latest/developerguide/token-endpoint.html>, 2026-12.

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint, client_credentials::SecretSource};

/// Tokens for the scope `read` of the resource server `orders`.
pub fn endpoint(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    // The domain of the user pool, not `cognito-idp.REGION.amazonaws.com`, which is the issuer.
    let url = "https://acme.auth.eu-central-1.amazoncognito.com/oauth2/token";
    let auth = ClientAuth::basic("client-id", secret);
    Ok(TokenEndpoint::new(url.parse()?, auth).scope("orders/read"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, plain, refused};

    fn cognito() -> Vendor {
        let url = "https://acme.auth.eu-central-1.amazoncognito.com/oauth2/token";
        Vendor::new(url, |asked| {
            match (asked.basic().as_str(), asked.form("scope").as_str()) {
                ("client-id:secret", "orders/read") => {
                    let token = json!({
                        "access_token": "eyJ.cognito", "token_type": "Bearer", "expires_in": 3600,
                    });
                    (200, token)
                }
                ("client-id:secret", _) => refused(400, "invalid_scope"),
                _ => refused(400, "invalid_client"),
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_token_for_a_custom_scope_serves_all_requests() {
        cognito().serves(endpoint("secret").unwrap()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_scope_without_its_resource_server_is_refused() {
        let vendor = cognito();
        let scope = plain(&vendor, ClientAuth::basic("client-id", "secret")).scope("read");

        assert_eq!(vendor.refuses_with(scope).await, "invalid_scope");
    }
}
