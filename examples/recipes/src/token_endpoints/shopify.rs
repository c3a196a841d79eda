//! Shopify: the client credentials grant of an app in your own organization, with a field of its own for the token.
//!
//! A token is valid for 24 h. The Admin API ignores `Authorization`: it reads `X-Shopify-Access-Token`.
//!
//! Source: <https://shopify.dev/docs/apps/build/dev-dashboard/get-api-access-tokens>, 2026-12.

use http::HeaderName;
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint, client_credentials::SecretSource,
};

/// Tokens for the shop `acme`.
pub fn endpoint(secret: impl SecretSource) -> Result<TokenEndpoint, BoxError> {
    let url = "https://acme.myshopify.com/admin/oauth/access_token";
    Ok(TokenEndpoint::new(
        url.parse()?,
        ClientAuth::post("client-id", secret),
    ))
}

/// The layer with Shopify's field.
pub fn layer(endpoint: TokenEndpoint) -> Result<ClientCredentialsLayer, BoxError> {
    let api = "https://acme.myshopify.com".parse()?;
    let layer = ClientCredentialsLayer::builder(endpoint, api)
        .header(HeaderName::from_static("x-shopify-access-token"));
    Ok(layer.build())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::double::{Vendor, refused};

    fn shopify() -> Vendor {
        let url = "https://acme.myshopify.com/admin/oauth/access_token";
        Vendor::new(url, |asked| match asked.post().as_str() {
            // No `token_type`.
            "client-id:secret" => {
                let token = json!({ "access_token": "shpat_token", "scope": "read_products", "expires_in": 86399 });
                (200, token)
            }
            _ => refused(400, "invalid_client"),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_token_goes_into_shopifys_field() {
        let vendor = shopify();
        let layer = layer(endpoint("secret").unwrap().service(vendor.http())).unwrap();
        let field = ("x-shopify-access-token", "");

        vendor
            .serves_layer(&layer, "https://acme.myshopify.com", field)
            .await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic = "401"]
    async fn without_the_setting_the_api_gets_no_token() {
        let vendor = shopify();
        let endpoint = endpoint("secret").unwrap().service(vendor.http());
        let api = "https://acme.myshopify.com";
        let layer = ClientCredentialsLayer::builder(endpoint, api.parse().unwrap()).build();

        vendor
            .serves_layer(&layer, api, ("x-shopify-access-token", ""))
            .await;
    }
}
