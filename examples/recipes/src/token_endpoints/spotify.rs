//! Spotify: tokens for the Web API without a user.
//!
//! Limits are counted in a rolling window of 30 s. A 429 has `Retry-After`, which needs no setting.
//!
//! Source: <https://developer.spotify.com/documentation/web-api/tutorials/client-credentials-flow>, 2026-12.

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint, client_credentials::SecretSource};

/// Tokens for everything but the data of users.
pub fn endpoint(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let auth = ClientAuth::basic("client-id", secret);
    // Not the host of the API, `api.spotify.com`.
    Ok(TokenEndpoint::new(
        "https://accounts.spotify.com/api/token".parse()?,
        auth,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, plain, refused};

    fn spotify() -> Vendor {
        Vendor::new("https://accounts.spotify.com/api/token", |asked| {
            match (asked.basic().as_str(), asked.form("grant_type").as_str()) {
                ("client-id:secret", "client_credentials") => {
                    let token = json!({ "access_token": "NgCXRK", "token_type": "Bearer", "expires_in": 3600 });
                    (200, token)
                }
                ("client-id:secret", _) => refused(400, "unsupported_grant_type"),
                _ => refused(400, "invalid_client"),
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_token_serves_all_requests() {
        spotify().serves(endpoint("secret").unwrap()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_without_a_secret_is_refused() {
        let vendor = spotify();
        let without = plain(&vendor, ClientAuth::none("client-id"));

        assert_eq!(vendor.refuses_with(without).await, "invalid_client");
    }
}
