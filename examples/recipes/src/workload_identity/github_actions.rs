//! GitHub Actions: the ID token of a job, as client assertion at Entra ID.
//!
//! The job needs `permissions: { id-token: write }`. An ID token is valid for a few minutes, so a new one is requested for each
//! token request. For Google's STS, pass the closure to [`TokenExchange::new`](tower_m2m::client_credentials::TokenExchange::new)
//! instead.
//!
//! Sources: <https://docs.github.com/actions/reference/security/oidc>,
//! <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust>, 2026-12.

use bytes::Bytes;
use http::{Request, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower::ServiceExt;
use tower_m2m::{
    BoxError, ClientAuth, TokenEndpoint,
    client_credentials::{Secret, SecretSource, TokenError},
};

use crate::Http;

/// The ID token for `audience`. `url` and `bearer` are the values of `ACTIONS_ID_TOKEN_REQUEST_URL` and
/// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
pub fn id_token(
    http: Http,
    url: String,
    bearer: String,
    audience: &'static str,
) -> impl SecretSource {
    // The URL has a query already.
    let url = format!("{url}&audience={audience}");
    move || {
        let read = read(http.clone(), url.clone(), format!("Bearer {bearer}"));
        async move {
            let failed = |error: BoxError| {
                TokenError::transient("was not sent: no ID token").with_source(error)
            };
            read.await.map_err(failed)
        }
    }
}

/// Requests an ID token.
async fn read(http: Http, url: String, bearer: String) -> Result<Secret, BoxError> {
    let request = Request::get(url)
        .header(AUTHORIZATION, bearer)
        .body(Full::<Bytes>::default())?;
    let response = http.oneshot(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(body["value"]
        .as_str()
        .ok_or_else(|| format!("status {status}"))?
        .into())
}

/// Tokens of an application in Entra ID that trusts the repository.
pub fn endpoint(id_token: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let auth = ClientAuth::assertion("application-id", id_token);
    let url = "https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token";
    Ok(TokenEndpoint::new(url.parse()?, auth).scope("https://graph.microsoft.com/.default"))
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, refused};

    const URL: &str = "https://run.actions.githubusercontent.com/1//idtoken/2/3?api-version=2.0";
    const ENTRA: &str = "api://AzureADTokenExchange";

    fn actions() -> Vendor {
        let url = "https://run.actions.githubusercontent.com/1//idtoken/2/3?api-version=2.0&audience=api://AzureADTokenExchange";
        Vendor::at(Method::GET, url, |asked| {
            match asked.header("authorization") {
                "Bearer request-token" => (200, json!({ "count": 1, "value": "eyJ.actions" })),
                _ => (401, json!({ "message": "Unauthorized" })),
            }
        })
    }

    fn entra() -> Vendor {
        let url = "https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token";
        Vendor::new(url, |asked| {
            let type_ = asked.form("client_assertion_type");
            match (asked.form("client_assertion").as_str(), type_.as_str()) {
                ("eyJ.actions", ClientAuth::JWT_BEARER) => {
                    let token = json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": "eyJ.v2" });
                    (200, token)
                }
                _ => refused(401, "invalid_client"),
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_id_token_of_the_job_is_the_client_assertion() {
        let actions = actions();
        let id_token = id_token(actions.http(), URL.into(), "request-token".into(), ENTRA);

        entra().serves(endpoint(id_token).unwrap()).await;

        assert_eq!(actions.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_permission_nothing_is_sent_to_the_issuer() {
        let entra = entra();
        let id_token = id_token(actions().http(), URL.into(), String::new(), ENTRA);

        let error = entra.refuses(endpoint(id_token).unwrap()).await;

        assert!(error.to_string().contains("no ID token"), "{error}");
        assert_eq!(entra.requests(), 0);
    }
}
