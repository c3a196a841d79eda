//! Google: the JSON key file of a service account.
//!
//! The scopes are a claim of the signed assertion. Without a key file, prefer the [metadata
//! server](crate::workload_identity::gcp_metadata) or a projected token.
//!
//! Source: <https://developers.google.com/identity/protocols/oauth2/service-account#httprest>, 2026-12.

use tower_m2m::{
    TokenEndpoint,
    client_credentials::{GoogleServiceAccount, TokenError},
};

/// Tokens for Cloud Storage. `GoogleServiceAccount::file(path)` reads the file again for each token.
pub fn endpoint(key_file: &str) -> Result<TokenEndpoint, TokenError> {
    let account = GoogleServiceAccount::json(key_file)?;
    Ok(account
        .endpoint()
        .scope("https://www.googleapis.com/auth/devstorage.read_only"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::double::{KEY, Vendor, refused, verified};

    const URL: &str = "https://oauth2.googleapis.com/token";

    fn key_file() -> String {
        let file = json!({
            "type": "service_account", "project_id": "acme", "private_key_id": "key-1",
            "private_key": KEY, "client_email": "orders@acme.iam.gserviceaccount.com",
            "client_id": "1234", "token_uri": URL,
        });
        file.to_string()
    }

    fn google() -> Vendor {
        Vendor::new(URL, |asked| {
            let jwt_bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer";
            let Some((header, claims)) = verified(&asked.form("assertion")) else {
                return refused(400, "invalid_grant");
            };
            let token =
                json!({ "access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer" });
            match claims["scope"].as_str() {
                None => refused(400, "invalid_scope"),
                Some(_)
                    if asked.form("grant_type") == jwt_bearer
                        && header["kid"] == "key-1"
                        && claims["iss"] == "orders@acme.iam.gserviceaccount.com"
                        && claims["aud"] == URL =>
                {
                    (200, token)
                }
                Some(_) => refused(400, "invalid_grant"),
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_signed_assertion_serves_all_requests() {
        google().serves(endpoint(&key_file()).unwrap()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_scope_the_assertion_is_refused() {
        let without = GoogleServiceAccount::json(key_file()).unwrap().endpoint();

        assert_eq!(google().refuses_with(without).await, "invalid_scope");
    }
}
