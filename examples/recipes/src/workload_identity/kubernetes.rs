//! Kubernetes: a projected service account token, as client assertion or as subject of a token exchange.
//!
//! The kubelet replaces the file when 80 % of the token's lifetime have passed; `SecretFile` reads it for each token request. Set
//! the `audience` of the volume to what the authorization server expects.
//!
//! Sources: <https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#launch-a-pod-using-service-account-token-projection>,
//! RFC 7523 §2.2, RFC 8693, 2026-12.

use std::path::PathBuf;

use tower_m2m::{
    BoxError, ClientAuth, TokenEndpoint,
    client_credentials::{SecretFile, TokenExchange},
};

/// The token instead of a client secret, for example at Entra ID or Keycloak.
pub fn client_assertion(token: impl Into<PathBuf>) -> Result<TokenEndpoint, BoxError> {
    // `/var/run/secrets/tokens/issuer` in a pod, or what `AZURE_FEDERATED_TOKEN_FILE` says.
    let auth = ClientAuth::assertion("application-id", SecretFile::new(token));
    let url = "https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token";
    Ok(TokenEndpoint::new(url.parse()?, auth).scope("https://graph.microsoft.com/.default"))
}

/// The token as the subject of a token exchange, for example at Google's STS.
pub fn token_exchange(token: impl Into<PathBuf>) -> Result<TokenEndpoint, BoxError> {
    let subject = TokenExchange::new(SecretFile::new(token), TokenExchange::JWT)
        .requested_token_type("urn:ietf:params:oauth:token-type:access_token");
    let pool = "//iam.googleapis.com/projects/1234/locations/global/workloadIdentityPools/cluster/providers/cluster";
    let url = "https://sts.googleapis.com/v1/token".parse()?;
    Ok(TokenEndpoint::new(url, ClientAuth::anonymous())
        .grant(subject)
        .audience(pool)
        .scope("https://www.googleapis.com/auth/cloud-platform"))
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use serde_json::json;
    use tokio::time::sleep;
    use tower_m2m::ClientCredentialsLayer;

    use super::*;
    use crate::double::{API, Vendor, refused};

    /// A file that is deleted at the end of the test.
    struct Projected(PathBuf);

    impl Projected {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("recipes-{name}-{}", std::process::id())))
        }

        /// As the kubelet writes it.
        fn write(&self, token: &str) {
            std::fs::write(&self.0, token).unwrap();
        }
    }

    impl Drop for Projected {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// A server that accepts the last token of the cluster only.
    fn vendor(
        url: &'static str,
        parameter: &'static str,
        current: &Arc<Mutex<&'static str>>,
    ) -> Vendor {
        let current = Arc::clone(current);
        Vendor::new(url, move |asked| {
            let token =
                json!({ "token_type": "Bearer", "expires_in": 600, "access_token": "token" });
            let kind = asked.form(match parameter {
                "client_assertion" => "client_assertion_type",
                _ => "subject_token_type",
            });
            let kinds = [ClientAuth::JWT_BEARER, TokenExchange::JWT];
            match asked.form(parameter) == *current.lock().unwrap()
                && kinds.contains(&kind.as_str())
            {
                true => (200, token),
                false => refused(400, "invalid_grant"),
            }
        })
    }

    async fn survives_rotation(
        vendor: Vendor,
        file: Projected,
        current: Arc<Mutex<&'static str>>,
        endpoint: fn(&Path) -> Result<TokenEndpoint, BoxError>,
    ) {
        file.write("eyJ.first\n");
        let endpoint = endpoint(&file.0).unwrap().service(vendor.http());
        let tokens = ClientCredentialsLayer::builder(endpoint, API.parse().unwrap())
            .build()
            .handle();
        tokens.token().await.unwrap();

        file.write("eyJ.second\n");
        *current.lock().unwrap() = "eyJ.second";
        sleep(Duration::from_secs(601)).await;

        tokens.token().await.unwrap();
        assert_eq!(vendor.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_assertion_is_read_again_for_each_token() {
        let current = Arc::new(Mutex::new("eyJ.first"));
        let url = "https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token";
        let vendor = vendor(url, "client_assertion", &current);

        survives_rotation(vendor, Projected::new("assertion"), current, |path| {
            client_assertion(path)
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_subject_token_is_read_again_for_each_token() {
        let current = Arc::new(Mutex::new("eyJ.first"));
        let vendor = vendor(
            "https://sts.googleapis.com/v1/token",
            "subject_token",
            &current,
        );

        survives_rotation(vendor, Projected::new("subject"), current, |path| {
            token_exchange(path)
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic = "invalid_grant"]
    async fn a_token_that_is_read_only_once_is_refused_after_its_rotation() {
        let current = Arc::new(Mutex::new("eyJ.first"));
        let vendor = vendor(
            "https://sts.googleapis.com/v1/token",
            "subject_token",
            &current,
        );

        let once = |path: &Path| {
            let token = std::fs::read_to_string(path)?;
            let subject = TokenExchange::new(token, TokenExchange::JWT);
            let url = "https://sts.googleapis.com/v1/token".parse()?;
            Ok(TokenEndpoint::new(url, ClientAuth::anonymous()).grant(subject))
        };
        survives_rotation(vendor, Projected::new("once"), current, once).await;
    }
}
