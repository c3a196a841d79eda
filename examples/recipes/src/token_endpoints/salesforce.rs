//! Salesforce: the client credentials flow of an external client app, at the My Domain of the org.
//!
//! The response has no lifetime: it is the session timeout of the org, 2 hours by default. It names the host of the API in
//! `instance_url`. For the JWT bearer flow, see the guide `client_authentication`.
//!
//! Source: <https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_client_credentials_flow.htm>, 2026-12.

use std::time::Duration;

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint, client_credentials::SecretSource};

/// Tokens of the integration user of the app.
pub fn endpoint(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    // Not `login.salesforce.com`, which refuses this flow.
    let url = "https://acme.my.salesforce.com/services/oauth2/token";
    let auth = ClientAuth::post("consumer-key", secret);
    Ok(TokenEndpoint::new(url.parse()?, auth).default_lifetime(Duration::from_secs(2 * 3600)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, plain, refused};

    fn salesforce() -> Vendor {
        let url = "https://acme.my.salesforce.com/services/oauth2/token";
        Vendor::new(url, |asked| match asked.post().as_str() {
            "consumer-key:secret" => {
                let token = json!({
                    "access_token": "00D!token", "signature": "c2ln", "scope": "api",
                    "instance_url": "https://acme.my.salesforce.com",
                    "id": "https://login.salesforce.com/id/00D/005", "token_type": "Bearer",
                    "issued_at": "1796083200000",
                });
                (200, token)
            }
            _ => refused(400, "invalid_client"),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_token_lives_as_long_as_a_session() {
        let token = salesforce().serves(endpoint("secret").unwrap()).await;

        assert_eq!(token.lifetime(), Some(Duration::from_secs(7200)));
        assert_eq!(
            token.member("instance_url").unwrap(),
            "https://acme.my.salesforce.com"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_setting_the_lifetime_is_assumed_to_be_an_hour() {
        let vendor = salesforce();
        let without = plain(&vendor, ClientAuth::post("consumer-key", "secret"));

        let token = vendor.serves(without).await;

        assert_eq!(token.lifetime(), Some(Duration::from_secs(3600)));
    }
}
