//! Microsoft Entra ID (Azure AD): v2 with a scope, v1 with a resource, and a certificate instead of a secret.
//!
//! v1 sends all numbers as text. Of both dates, `expires_on` and `expires_in`, the second one is used.
//!
//! Sources: <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>,
//! <https://learn.microsoft.com/entra/identity-platform/certificate-credentials>,
//! <https://learn.microsoft.com/previous-versions/azure/active-directory/azuread-dev/v1-oauth2-client-creds-grant-flow>,
//! 2026-12.

use tower_m2m::{
    BoxError, ClientAuth, TokenEndpoint,
    client_credentials::{
        AssertionAudience, CertificateHeader, KeyAlgorithm, SecretSource, SigningKey,
    },
};

/// Tokens for Microsoft Graph.
pub fn v2(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let url = "https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token";
    let auth = ClientAuth::post("application-id", secret);
    // Always the API and `/.default`: the permissions are granted to the application.
    Ok(TokenEndpoint::new(url.parse()?, auth).scope("https://graph.microsoft.com/.default"))
}

/// The same from the older endpoint, as APIs require that accept only its tokens.
pub fn v1(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let url = "https://login.microsoftonline.com/TENANT-ID/oauth2/token";
    let auth = ClientAuth::post("application-id", secret);
    Ok(TokenEndpoint::new(url.parse()?, auth).resource("https://graph.microsoft.com/"))
}

/// The same with a certificate. `private_key` and `certificate` are PEM, and may be one text.
pub fn certificate(private_key: &str, certificate: &str) -> Result<TokenEndpoint, BoxError> {
    // `x5t#S256`; `.with_sha1()` adds `x5t`, which Microsoft documented before.
    let certificate = CertificateHeader::new(certificate)?;
    let key = SigningKey::pem(KeyAlgorithm::Ps256, private_key)?.with_certificate(certificate);
    let url = "https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token";
    let auth = ClientAuth::private_key_jwt("application-id", key);
    let endpoint = TokenEndpoint::new(url.parse()?, auth)
        .assertion_audience(AssertionAudience::TokenEndpoint)
        // Documented as `JWT`, which is what a JWT without a type is.
        .assertion_typ(false)
        .scope("https://graph.microsoft.com/.default");
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::double::{Answer, Asked, KEY, Vendor, plain, refused, verified};

    const CERTIFICATE: &str = include_str!("../../../../tests/certificates/client.pem");
    /// `openssl x509 -outform der | openssl dgst -sha256 -binary | base64`
    const THUMBPRINT: &str = "hmoJ0UbPC1L35IWPEOaDPYG_zZ60rJl9EE0Q7UuYZkE";
    const V2: &str = "https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token";
    const V1: &str = "https://login.microsoftonline.com/TENANT-ID/oauth2/token";

    fn granted_v2(asked: &Asked) -> Answer {
        let token = json!({
            "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": "eyJ.v2",
        });
        match asked.form("scope").ends_with("/.default") {
            true => (200, token),
            // AADSTS1002012
            false => refused(400, "invalid_scope"),
        }
    }

    fn entra_v2() -> Vendor {
        Vendor::new(V2, |asked| match asked.post().as_str() {
            "application-id:secret" => granted_v2(asked),
            _ => refused(401, "invalid_client"),
        })
    }

    fn entra_v1() -> Vendor {
        Vendor::new(V1, |asked| {
            match (asked.post().as_str(), asked.form("resource").as_str()) {
                ("application-id:secret", "https://graph.microsoft.com/") => {
                    let token = json!({
                        "token_type": "Bearer", "expires_in": "3599", "ext_expires_in": "3599",
                        "expires_on": "1796086799", "not_before": "1796082900",
                        "resource": "https://graph.microsoft.com/", "access_token": "eyJ.v1",
                    });
                    (200, token)
                }
                // AADSTS500011 and the like
                ("application-id:secret", _) => refused(400, "invalid_resource"),
                _ => refused(401, "invalid_client"),
            }
        })
    }

    fn entra_certificate() -> Vendor {
        Vendor::new(V2, |asked| {
            let assertion = verified(&asked.form("client_assertion"));
            let accepted = assertion.is_some_and(|(header, claims)| {
                header["alg"] == "PS256"
                    && header["x5t#S256"] == THUMBPRINT
                    && header.get("typ").is_none_or(|typ| typ == "JWT")
                    && claims["aud"] == V2
                    && claims["sub"] == "application-id"
            });
            match accepted {
                true => granted_v2(asked),
                // AADSTS700027
                false => refused(401, "invalid_client"),
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn v2_grants_the_default_scope() {
        entra_v2().serves(v2("secret").unwrap()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn v2_refuses_any_other_scope() {
        let vendor = entra_v2();
        let scope = plain(&vendor, ClientAuth::post("application-id", "secret"))
            .scope("https://graph.microsoft.com/User.Read.All");

        assert_eq!(vendor.refuses_with(scope).await, "invalid_scope");
    }

    #[tokio::test(start_paused = true)]
    async fn v1_grants_the_resource_with_numbers_as_text() {
        let token = entra_v1().serves(v1("secret").unwrap()).await;

        assert_eq!(token.lifetime(), Some(Duration::from_secs(3599)));
    }

    #[tokio::test(start_paused = true)]
    async fn v1_refuses_a_scope_instead_of_a_resource() {
        let vendor = entra_v1();
        let scope = plain(&vendor, ClientAuth::post("application-id", "secret"))
            .scope("https://graph.microsoft.com/.default");

        assert_eq!(vendor.refuses_with(scope).await, "invalid_resource");
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_is_named_by_its_thumbprint() {
        let endpoint = certificate(KEY, CERTIFICATE).unwrap();

        entra_certificate().serves(endpoint).await;
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_thumbprint_the_key_is_unknown() {
        let vendor = entra_certificate();
        let key = SigningKey::pem(KeyAlgorithm::Ps256, KEY).unwrap();
        let without = plain(&vendor, ClientAuth::private_key_jwt("application-id", key))
            .assertion_audience(AssertionAudience::TokenEndpoint)
            .assertion_typ(false)
            .scope("https://graph.microsoft.com/.default");

        assert_eq!(vendor.refuses_with(without).await, "invalid_client");
    }
}
