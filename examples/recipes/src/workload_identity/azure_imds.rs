//! Azure: the managed identity of a VM, from the Instance Metadata Service (IMDS).
//!
//! It answers a GET at a link-local address, with numbers as text. Of a user-assigned identity, add `&client_id=` to the URL. A 410 means
//! that IMDS is being updated, for up to 70 s.
//!
//! Source: <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>, 2026-12.

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint};

use super::get_with;
use crate::Http;

/// Tokens for Azure Resource Manager.
pub fn endpoint(http: Http) -> Result<TokenEndpoint, BoxError> {
    let url = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F";
    let endpoint = TokenEndpoint::new(url.parse()?, ClientAuth::anonymous());
    // Link-local: the request does not leave the machine.
    Ok(endpoint
        .service(get_with(http, "metadata", "true"))
        .dangerously_allow_http())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, plain, refused};

    fn imds() -> Vendor {
        let url = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F";
        Vendor::at(Method::GET, url, |asked| match asked.header("metadata") {
            "true" => {
                let token = json!({
                    "access_token": "eyJ.imds", "refresh_token": "", "expires_in": "3599",
                    "expires_on": "1796086799", "not_before": "1796082900",
                    "resource": "https://management.azure.com/", "token_type": "Bearer",
                });
                (200, token)
            }
            _ => refused(400, "invalid_request"),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_token_of_the_managed_identity_serves_all_requests() {
        let vendor = imds();

        let token = vendor.serves_source(endpoint(vendor.http()).unwrap()).await;

        assert_eq!(token.lifetime(), Some(Duration::from_secs(3599)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_request_of_rfc_6749_is_not_understood() {
        let vendor = imds();
        let plain = plain(&vendor, ClientAuth::anonymous()).dangerously_allow_http();

        assert_eq!(vendor.refuses(plain).await.status().unwrap(), 404);
    }
}
