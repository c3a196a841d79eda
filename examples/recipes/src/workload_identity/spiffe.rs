//! SPIFFE: a JWT-SVID that spiffe-helper or the CSI driver writes to a file.
//!
//! Keycloak requires the assertion type of SPIFFE (feature `spiffe`), and refuses the one of RFC 7523. Other servers take the SVID
//! as an assertion of RFC 7523: `ClientAuth::assertion(id, file)`. The audience of the SVID is the issuer.
//!
//! Source: draft-ietf-oauth-spiffe-client-auth-01 §3.1; <https://www.keycloak.org/docs/latest/server_admin/>, 2026-12.

use std::path::PathBuf;

use tower_m2m::{BoxError, ClientAuth, TokenEndpoint, client_credentials::SecretFile};

/// Tokens of the workload `spiffe://acme.example/orders`.
pub fn endpoint(svid: impl Into<PathBuf>) -> Result<TokenEndpoint, BoxError> {
    let id = "spiffe://acme.example/orders";
    let auth = ClientAuth::assertion_of_type(id, SecretFile::new(svid), ClientAuth::JWT_SPIFFE);
    let url = "https://sso.example.com/realms/acme/protocol/openid-connect/token";
    Ok(TokenEndpoint::new(url.parse()?, auth))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, plain, refused};

    fn keycloak() -> Vendor {
        let url = "https://sso.example.com/realms/acme/protocol/openid-connect/token";
        Vendor::new(url, |asked| {
            let kind = asked.form("client_assertion_type");
            let svid = include_str!("../../Cargo.toml").trim();
            match asked.form("client_assertion") == svid && kind == ClientAuth::JWT_SPIFFE {
                true => (
                    200,
                    json!({ "access_token": "eyJ.keycloak", "expires_in": 300, "token_type": "Bearer" }),
                ),
                false => refused(401, "invalid_client"),
            }
        })
    }

    /// Any file: the double compares its text only.
    const SVID: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

    #[tokio::test(start_paused = true)]
    async fn the_svid_authenticates_the_workload() {
        keycloak().serves(endpoint(SVID).unwrap()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_type_of_spiffe_the_svid_is_refused() {
        let vendor = keycloak();
        let id = "spiffe://acme.example/orders";
        let without = plain(&vendor, ClientAuth::assertion(id, SecretFile::new(SVID)));

        assert_eq!(vendor.refuses_with(without).await, "invalid_client");
    }
}
