//! SAP BTP: the Authorization and Trust Management service (XSUAA), with a service key.
//!
//! Ids contain `!` and `|`, and secrets `=`. XSUAA decodes them in HTTP Basic only if a field of its own says so; the form is
//! decoded always.
//!
//! Sources: <https://help.sap.com/docs/btp/sap-business-technology-platform/retrieve-oauth2-access-token>, and SAP-docs/btp-cloud-platform
//! about `X-CF-ENCODED-CREDENTIALS`, 2026-12.

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint, client_credentials::SecretSource};

/// Tokens of the service key: `url` with `/oauth/token`, `clientid`, `clientsecret`.
pub fn endpoint(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let url = "https://acme.authentication.eu10.hana.ondemand.com/oauth/token";
    let auth = ClientAuth::post("sb-orders!b123|xsuaa!b4", secret);
    Ok(TokenEndpoint::new(url.parse()?, auth))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tower_m2m::client_credentials::TokenErrorKind;

    use super::*;
    use crate::double::{Vendor, plain, refused};

    fn xsuaa() -> Vendor {
        let url = "https://acme.authentication.eu10.hana.ondemand.com/oauth/token";
        Vendor::new(url, |asked| {
            let client = "sb-orders!b123|xsuaa!b4:secret=";
            // As it is in Basic, without decoding.
            match asked.basic() == client || asked.post() == client {
                true => {
                    let token = json!({
                        "access_token": "eyJ.xsuaa", "token_type": "bearer", "expires_in": 43199,
                        "scope": "uaa.resource", "jti": "8d4b",
                    });
                    (200, token)
                }
                false => refused(401, "unauthorized"),
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_token_of_the_service_key_serves_all_requests() {
        let token = xsuaa().serves(endpoint("secret=").unwrap()).await;

        assert_eq!(token.lifetime(), Some(Duration::from_secs(43199)));
    }

    #[tokio::test(start_paused = true)]
    async fn basic_with_the_encoding_of_rfc_6749_is_refused() {
        let vendor = xsuaa();
        let auth = ClientAuth::basic("sb-orders!b123|xsuaa!b4", "secret=");
        let basic = plain(&vendor, auth);

        let error = vendor.refuses(basic).await;
        assert_eq!(error.kind(), TokenErrorKind::InvalidClient);
    }
}
