//! Google Cloud: the metadata server of a VM, GKE or Cloud Run.
//!
//! It answers a GET and speaks http, link-local, so that the request does not leave the machine. It returns the same token
//! until a few minutes before its end.
//!
//! Source: <https://cloud.google.com/compute/docs/access/authenticate-workloads#applications>, 2026-12.

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint};

use super::get_with;
use crate::Http;

/// Tokens of the attached service account, with its scopes.
pub fn endpoint(http: Http) -> Result<TokenEndpoint, BoxError> {
    let url = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
    let endpoint = TokenEndpoint::new(url.parse()?, ClientAuth::anonymous());
    // Link-local: the request does not leave the machine.
    Ok(endpoint
        .service(get_with(http, "metadata-flavor", "Google"))
        .dangerously_allow_http())
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, plain};

    fn metadata_server() -> Vendor {
        let url = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
        Vendor::at(Method::GET, url, |asked| {
            match asked.header("metadata-flavor") {
                "Google" => {
                    let token = json!({ "access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer" });
                    (200, token)
                }
                _ => (
                    403,
                    json!({ "error": "Missing Metadata-Flavor:Google header" }),
                ),
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_token_of_the_attached_account_serves_all_requests() {
        let vendor = metadata_server();

        vendor.serves_source(endpoint(vendor.http()).unwrap()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_request_of_rfc_6749_is_not_understood() {
        let vendor = metadata_server();
        let plain = plain(&vendor, ClientAuth::anonymous()).dangerously_allow_http();

        assert_eq!(vendor.refuses(plain).await.status().unwrap(), 404);
    }
}
