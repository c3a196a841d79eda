//! GitHub: installation tokens of a GitHub App, a `TokenSource` with a JSON API.
//!
//! A JWT that the app signs is the bearer token of the request for the installation's token. GitHub rejects a JWT of more than
//! 10 minutes, and any request without a `User-Agent`.
//!
//! Sources: <https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app>,
//! <https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app>, 2026-12.

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    Request,
    header::{ACCEPT, AUTHORIZATION, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_m2m::{
    BoxError,
    client_credentials::{AccessToken, FetchContext, Signer, SigningKey, TokenError, TokenSource},
};

use crate::Http;

/// The tokens of one installation.
pub struct Installation {
    /// The client id of the app.
    pub app: String,
    /// The private key of the app: `SigningKey::pem(KeyAlgorithm::Rs256, ..)`.
    pub key: SigningKey,
    /// The id of the installation.
    pub installation: u64,
    /// A client for `api.github.com`.
    pub http: Http,
}

impl TokenSource for Installation {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        let now = cx.clock().wall_clock();
        let failed = |error: BoxError| TokenError::transient("failed").with_source(error);
        let (status, answer) = self.request(now).await.map_err(failed)?;
        let end = answer["expires_at"]
            .as_str()
            .and_then(|end| end.parse::<Timestamp>().ok());
        match (answer["token"].as_str(), end) {
            (Some(token), Some(end)) => {
                let lifetime = SystemTime::from(end)
                    .duration_since(now)
                    .unwrap_or_default();
                Ok(AccessToken::new(token).expires_in(lifetime))
            }
            _ if [401, 404, 422].contains(&status.as_u16()) => {
                // The message says which of the key, the ids and the clock is wrong.
                let message = format!("was refused: {status}, {}", answer["message"]);
                Err(TokenError::permanent(message))
            }
            // Among them a 403 or 429 of a rate limit.
            _ => Err(TokenError::transient(format!("failed: {status}"))),
        }
    }
}

impl Installation {
    /// Requests a token. Returns the response's status and JSON.
    async fn request(&self, now: SystemTime) -> Result<(http::StatusCode, Value), BoxError> {
        let url = format!(
            "https://api.github.com/app/installations/{}/access_tokens",
            self.installation
        );
        let request = Request::post(url)
            .header(AUTHORIZATION, format!("Bearer {}", self.jwt(now).await?))
            .header(ACCEPT, "application/vnd.github+json")
            .header(USER_AGENT, "acme-orders");
        // Without a body, the token is for all repositories and permissions of the installation.
        let request = request.body(Full::<Bytes>::default())?;
        let response = self.http.clone().oneshot(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok((
            head.status,
            serde_json::from_slice(&body).unwrap_or_default(),
        ))
    }

    /// The JWT by which the app authenticates.
    async fn jwt(&self, now: SystemTime) -> Result<String, BoxError> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH)?;
        // A minute ago, as GitHub recommends, for clocks that differ.
        let issued = now - Duration::from_secs(60);
        let expires = now + Duration::from_secs(480);
        let claims = json!({ "iss": self.app, "iat": issued.as_secs(), "exp": expires.as_secs() });
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!(
            "{}.{}",
            part(json!({ "alg": "RS256", "typ": "JWT" })),
            part(claims)
        );
        let signature = self.key.sign(message.as_bytes()).await?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use tower_m2m::{ClientCredentialsLayer, client_credentials::KeyAlgorithm};

    use super::*;
    use crate::double::{KEY, Vendor, verified};

    fn github() -> Vendor {
        let url = "https://api.github.com/app/installations/42/access_tokens";
        Vendor::at(Method::POST, url, |asked| {
            let refused = |status, message| (status, json!({ "message": message }));
            let jwt = asked.header("authorization").strip_prefix("Bearer ");
            let Some((header, claims)) = jwt.and_then(verified) else {
                return refused(401, "A JSON web token could not be decoded");
            };
            let number = |name: &str| claims[name].as_u64().unwrap_or_default();
            if asked.header("user-agent").is_empty() {
                return refused(403, "Request forbidden by administrative rules.");
            } else if header["alg"] != "RS256" || number("exp") - number("iat") > 600 {
                return refused(
                    401,
                    "'Expiration time' claim ('exp') is too far in the future",
                );
            } else if claims["iss"] != "Iv23li" {
                return refused(404, "Integration not found");
            }
            let end =
                Timestamp::from_second(i64::try_from(number("iat")).unwrap() + 60 + 3600).unwrap();
            let token = json!({
                "token": "ghs_token", "expires_at": end.to_string(),
                "permissions": { "issues": "write", "contents": "read" }, "repository_selection": "all",
            });
            (201, token)
        })
    }

    fn layer(vendor: &Vendor, app: &str) -> ClientCredentialsLayer {
        let source = Installation {
            app: app.to_owned(),
            key: SigningKey::pem(KeyAlgorithm::Rs256, KEY).unwrap(),
            installation: 42,
            http: vendor.http(),
        };
        ClientCredentialsLayer::builder(source, "https://api.github.com".parse().unwrap()).build()
    }

    #[tokio::test(start_paused = true)]
    async fn one_installation_token_serves_all_requests_for_an_hour() {
        let vendor = github();
        let layer = layer(&vendor, "Iv23li");

        let field = ("authorization", "Bearer ");
        let token = vendor
            .serves_layer(&layer, "https://api.github.com", field)
            .await;

        let lifetime = token.lifetime().unwrap().as_secs();
        assert!((3599..=3600).contains(&lifetime), "{lifetime}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_app_is_a_permanent_error_with_githubs_message() {
        let error = layer(&github(), "another")
            .handle()
            .token()
            .await
            .unwrap_err();

        assert!(!error.is_transient());
        assert!(
            error.to_string().contains("Integration not found"),
            "{error}"
        );
    }
}
