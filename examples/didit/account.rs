//! The account: registered by a person, and able to read an application's credentials.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_m2m::{
    BoxError, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer,
    client_credentials::AccessToken,
};

use super::Site;

/// What the application authenticates with. The key is its client secret, too.
pub(crate) struct Credentials {
    pub(crate) client_id: String,
    pub(crate) api_key: String,
}

impl Credentials {
    pub(crate) fn new(client_id: impl Into<String>, api_key: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            api_key: api_key.into(),
        }
    }
}

pub(crate) struct Account {
    pub(crate) token: AccessToken,
    pub(crate) org: String,
    pub(crate) app: String,
}

/// Registers an account. Didit sends a code to the mailbox, which must be sent back.
pub(crate) async fn register(
    site: &Site,
    mailbox: impl FnOnce() -> Option<String>,
) -> Result<Account, BoxError> {
    let email = "developer@acme.test";
    let form = json!({ "email": email, "password": "MyStr0ng!Pass" });
    post(site, "/auth/v2/programmatic/register/", &form).await?;
    let code = mailbox().ok_or("the mailbox contains no code")?;
    let form = json!({ "email": email, "code": code });
    let answer = post(site, "/auth/v2/programmatic/verify-email/", &form).await?;
    Ok(Account {
        token: AccessToken::new(text(&answer, "/access_token")?),
        org: text(&answer, "/organization/uuid")?,
        app: text(&answer, "/application/uuid")?,
    })
}

/// Reads an application's credentials, which requires the account's token: the client's is rejected.
pub(crate) async fn read(
    site: &Site,
    token: AccessToken,
    org: &str,
    app: &str,
) -> Result<Credentials, BoxError> {
    let credentials = ClientCredentialsLayer::builder(token, site.auth.parse()?)
        .name("didit account")
        .build();
    let client = M2mLayer::new(RateLimitRetryLayer::new(), credentials).layer(site.http.clone());
    let url = format!(
        "{}/auth/v2/organizations/me/{org}/applications/{app}/",
        site.auth
    );
    let request = Request::get(url).body(Full::<Bytes>::default())?;
    let response = client.oneshot(request).await?;
    if response.status() != StatusCode::OK {
        return Err(format!("the application's credentials: {}", response.status()).into());
    }
    let answer = response.into_body().collect().await?.to_bytes();
    let answer = serde_json::from_slice(&answer)?;
    Ok(Credentials::new(
        text(&answer, "/client_id")?,
        text(&answer, "/api_key")?,
    ))
}

async fn post(site: &Site, path: &str, form: &Value) -> Result<Value, BoxError> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}{path}", site.auth))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::from(form.to_string()))?;
    let response = site.http.request(request).await?;
    if !response.status().is_success() {
        return Err(format!("{path}: {}", response.status()).into());
    }
    let answer = response.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&answer)?)
}

fn text(answer: &Value, pointer: &str) -> Result<String, BoxError> {
    let text = answer.pointer(pointer).and_then(Value::as_str);
    Ok(text
        .ok_or_else(|| format!("no {pointer} in the response"))?
        .to_owned())
}
