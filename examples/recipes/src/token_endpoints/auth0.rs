//! Auth0: a machine-to-machine application that is authorized for the API.
//!
//! Auth0 counts issued tokens against the plan, so one token for all requests matters.
//!
//! Source: <https://auth0.com/docs/get-started/authentication-and-authorization-flow/client-credentials-flow>, 2026-12.

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint, client_credentials::SecretSource};

/// Tokens of the tenant `acme` for the API with the identifier `https://api.example.com`.
pub fn endpoint(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let auth = ClientAuth::post("client-id", secret);
    let endpoint = TokenEndpoint::new("https://acme.eu.auth0.com/oauth/token".parse()?, auth)
        // The identifier of the API, with its slash if it has one. Required, unless the tenant has a default audience.
        .audience("https://api.example.com");
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, plain, refused};

    fn auth0() -> Vendor {
        Vendor::new("https://acme.eu.auth0.com/oauth/token", |asked| {
            match (asked.post().as_str(), asked.form("audience").as_str()) {
                ("client-id:secret", "https://api.example.com") => {
                    let token = json!({
                        "access_token": "eyJ.auth0", "scope": "read:orders", "expires_in": 86400,
                        "token_type": "Bearer",
                    });
                    (200, token)
                }
                ("client-id:secret", _) => refused(403, "access_denied"),
                _ => refused(401, "access_denied"),
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_token_for_the_audience_serves_all_requests() {
        let token = auth0().serves(endpoint("secret").unwrap()).await;

        assert_eq!(token.scope(), Some("read:orders"));
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_audience_access_is_denied() {
        let vendor = auth0();
        let without = plain(&vendor, ClientAuth::post("client-id", "secret"));

        assert_eq!(vendor.refuses_with(without).await, "access_denied");
    }
}
