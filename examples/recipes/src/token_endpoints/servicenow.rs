//! ServiceNow: inbound client credentials, which the property `glide.oauth.inbound.client.credential.grant_type.enabled` permits.
//!
//! The id and the secret go into the form. Within its lifetime, the instance returns the same token again, with what is left of
//! its lifetime.
//!
//! Sources: <https://www.servicenow.com/docs/bundle/zurich-platform-security/page/integrate/authentication/concept/client-credentials.html>,
//! <https://www.servicenow.com/docs/bundle/zurich-platform-security/page/administer/security/reference/r_OAuthAPIRequestParameters.html>,
//! 2026-12.

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint, client_credentials::SecretSource};

/// Tokens of the OAuth application user.
pub fn endpoint(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let url = "https://acme.service-now.com/oauth_token.do";
    let auth = ClientAuth::post("client-id", secret);
    Ok(TokenEndpoint::new(url.parse()?, auth))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, plain, refused};

    fn servicenow() -> Vendor {
        let url = "https://acme.service-now.com/oauth_token.do";
        Vendor::new(url, |asked| match asked.post().as_str() {
            "client-id:secret" => {
                let token = json!({
                    "access_token": "2wRlsRCT2SYj", "scope": "useraccount", "token_type": "Bearer",
                    "expires_in": 1799,
                });
                (200, token)
            }
            _ => refused(401, "invalid_client"),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_token_of_the_application_user_serves_all_requests() {
        servicenow().serves(endpoint("secret").unwrap()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_secret_belongs_into_the_form() {
        let vendor = servicenow();
        let basic = plain(&vendor, ClientAuth::basic("client-id", "secret"));

        assert_eq!(vendor.refuses_with(basic).await, "invalid_client");
    }
}
