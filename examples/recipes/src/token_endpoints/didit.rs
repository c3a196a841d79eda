//! Didit: HTTP Basic with the API key as the secret; `examples/didit` has the other two ways, and the limits.
//!
//! The response has no `token_type`. Its dates, `iat` and `exp`, are from 2021 in the documentation; `expires_in` counts.
//!
//! Source: <https://docs.didit.me>, 2026-12.

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint, client_credentials::SecretSource};

/// Tokens of an application.
pub fn endpoint(api_key: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    // Documented without the encoding of RFC 6749.
    let auth = ClientAuth::basic_raw("client-id", api_key);
    Ok(TokenEndpoint::new(
        "https://apx.didit.me/auth/v2/token/".parse()?,
        auth,
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, plain, refused};

    fn didit() -> Vendor {
        let url = "https://apx.didit.me/auth/v2/token/";
        Vendor::new(url, |asked| match asked.basic().as_str() {
            "client-id:api/key" => {
                let token = json!({
                    "iss": "https://didit.me", "iat": 1_617_220_000, "sub": "application",
                    "client_id": "client-id", "organization_id": "organization",
                    "expires_in": 86400, "exp": 1_618_084_000, "access_token": "eyJ.didit",
                });
                (200, token)
            }
            _ => refused(401, "invalid_client"),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_token_lives_for_a_day_whatever_its_dates_say() {
        let token = didit().serves(endpoint("api/key").unwrap()).await;

        assert_eq!(token.lifetime(), Some(Duration::from_secs(86400)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_encoded_key_is_refused() {
        let vendor = didit();
        let encoded = plain(&vendor, ClientAuth::basic("client-id", "api/key"));

        assert_eq!(vendor.refuses_with(encoded).await, "invalid_client");
    }
}
