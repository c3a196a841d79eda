//! cargo run --example google_service_account --features jwt-rust-crypto
//!
//! A Google service account: its JSON key file is read, and an assertion that its key signs is exchanged for a token
//! (RFC 7523 §2.1). Runs against doubles in this process. With `GOOGLE_APPLICATION_CREDENTIALS` (the path of a key file), it
//! fetches a token from Google; enable `ring` as well then.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty, Full};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_m2m::{BoxError, ClientCredentialsLayer, client_credentials::GoogleServiceAccount};

const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
const API: &str = "https://storage.googleapis.com";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    if let Ok(path) = std::env::var("GOOGLE_APPLICATION_CREDENTIALS") {
        let endpoint = GoogleServiceAccount::file(path)
            .await?
            .endpoint()
            .scope(SCOPE);
        let tokens = ClientCredentialsLayer::builder(endpoint, API.parse()?)
            .build()
            .handle();
        tokens.prefetch().await?;
        println!(
            "a token of Google, valid for {:?}",
            tokens.status().expires_in()
        );
        return Ok(());
    }
    let endpoint = GoogleServiceAccount::json(key_file().to_string())?
        .endpoint()
        .service(service_fn(google))
        .scope(SCOPE);
    let client = ServiceBuilder::new()
        .layer(
            ClientCredentialsLayer::builder(endpoint, API.parse()?)
                .name("storage")
                .build(),
        )
        .service(service_fn(storage));

    for object in ["a", "b", "c"] {
        let request = Request::get(format!("{API}/storage/v1/b/orders/o/{object}"));
        let response = client
            .clone()
            .oneshot(request.body(Empty::<Bytes>::new())?)
            .await?;
        let body = response.into_body().collect().await?.to_bytes();
        println!("{object}: {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}

/// A key file, as `gcloud iam service-accounts keys create` writes it.
fn key_file() -> Value {
    json!({
        "type": "service_account",
        "private_key_id": "key-1",
        "private_key": include_str!("../tests/keys/rsa.pem"),
        "client_email": "orders@example.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    })
}

/// A double of Google's token endpoint. Shows the claims of the assertion, whose signature it does not check.
async fn google(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError> {
    let form = request.into_body().collect().await?.to_bytes();
    let form = String::from_utf8(form.to_vec())?;
    let assertion = form.split("assertion=").nth(1).ok_or("no assertion")?;
    let assertion = assertion
        .replace("%2D", "-")
        .replace("%5F", "_")
        .replace("%2E", ".");
    let claims = assertion.split('.').nth(1).ok_or("no claims")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    println!("token request of {} for {}", claims["iss"], claims["scope"]);
    let token = json!({ "access_token": "ya29.token", "token_type": "Bearer", "expires_in": 3599 });
    Ok(Response::new(token.to_string().into()))
}

/// A double of the API.
async fn storage(request: Request<Empty<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError> {
    let token = request.headers()[header::AUTHORIZATION].to_str()?;
    let body = match token {
        "Bearer ya29.token" => "an object",
        _ => "a wrong token",
    };
    Ok(Response::new(body.into()))
}
