//! What a program does that uses the crate without its default features.

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, RateLimitRetryLayer, TokenEndpoint,
    client_credentials::TokenHandle,
};

const TOKEN: &str = r#"{"access_token":"abc","token_type":"Bearer","expires_in":300}"#;

/// An endpoint without an HTTP client.
///
/// # Errors
///
/// Never: the URL is one.
pub fn endpoint() -> Result<TokenEndpoint, BoxError> {
    let url = "https://issuer.example/token".parse()?;
    Ok(TokenEndpoint::new(url, ClientAuth::post("id", "secret")))
}

/// The tokens of `endpoint`.
///
/// # Errors
///
/// Never: the origin is one.
pub fn tokens(endpoint: TokenEndpoint) -> Result<TokenHandle, BoxError> {
    let origin = "https://api.example".parse()?;
    Ok(ClientCredentialsLayer::builder(endpoint, origin)
        .build()
        .handle())
}

/// One request through both layers, to services in process; answers with the credential that arrived.
///
/// # Errors
///
/// Those of the layers.
pub async fn send() -> Result<Bytes, BoxError> {
    let issuer = service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(TOKEN)))
    });
    let api = service_fn(|request: Request<Full<Bytes>>| async move {
        let value = request.headers().get(AUTHORIZATION).ok_or("no token")?;
        let value = Bytes::copy_from_slice(value.as_bytes());
        Ok::<_, BoxError>(Response::new(Full::new(value)))
    });
    let origin = "https://api.example".parse()?;
    let endpoint = endpoint()?.service(issuer);
    let client = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .layer(ClientCredentialsLayer::builder(endpoint, origin).build())
        .service(api);
    let request = Request::get("https://api.example/").body(Full::default())?;
    let response = client.oneshot(request).await?;
    Ok(response.into_body().collect().await?.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::{endpoint, send, tokens};

    #[tokio::test]
    async fn both_layers_work_without_features() {
        assert_eq!(send().await.unwrap(), "Bearer abc");
    }

    #[tokio::test]
    async fn an_endpoint_without_a_client_names_the_remedy() {
        let error = tokens(endpoint().unwrap())
            .unwrap()
            .prefetch()
            .await
            .unwrap_err();

        assert!(!error.is_transient());
        assert!(error.to_string().contains(".service(..)"), "{error}");
    }
}
