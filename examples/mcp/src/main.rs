//! cargo run -p mcp
//!
//! A client of an MCP server, by the official SDK (`rmcp`), whose requests get their tokens from tower-m2m. The
//! authorization server is found by the MCP server (RFC 9728), as the authorization extensions of MCP require.
//!
//! - without arguments: on a double of both servers
//! - `mcp URL`: at a server. The environment variable `MCP_CONFORMANCE_CONTEXT` has the credentials as JSON, as the
//!   conformance tests of MCP set it: see [`credentials::Credentials`].

mod credentials;
mod double;
mod transport;

use http::Uri;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rmcp::{
    ServiceExt,
    model::{CallToolRequestParams, Tool},
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use tower::ServiceBuilder;
use tower_m2m::{BoxError, ClientCredentialsLayer, Origin, RateLimitRetryLayer, TokenEndpoint};

use credentials::Credentials;
use transport::TowerTransport;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let tools = match std::env::args().nth(1) {
        Some(url) => {
            let url: Uri = url.parse()?;
            let endpoint = Credentials::from_env()?.endpoint(url.clone())?;
            use_tools(url, endpoint).await?
        }
        None => double::use_tools().await?,
    };
    for tool in tools {
        println!("{}: {}", tool.name, tool.description.unwrap_or_default());
    }
    Ok(())
}

/// Connects to the MCP server at `url`, lists its tools, and calls each that needs no arguments.
async fn use_tools(url: Uri, endpoint: TokenEndpoint) -> Result<Vec<Tool>, BoxError> {
    let mut origin = url.clone().into_parts();
    origin.path_and_query = Some("/".parse()?);
    let origin: Origin = Uri::from_parts(origin)?.try_into()?;
    let credentials = ClientCredentialsLayer::builder(endpoint, origin)
        .name("mcp")
        .step_up(true)
        .build();
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_native_roots()?
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .layer(credentials.clone())
        .service(client);

    let transport = TowerTransport::new(service);
    let config = StreamableHttpClientTransportConfig::with_uri(url.to_string());
    let transport = StreamableHttpClientTransport::with_client(transport, config);
    let session = ().serve(transport).await?;
    let tools = session.list_all_tools().await?;
    for tool in &tools {
        if !tool.input_schema.contains_key("required") {
            let call = CallToolRequestParams::new(tool.name.clone());
            session.call_tool(call).await?;
        }
    }
    session.cancel().await?;
    credentials.handle().shutdown().await;
    Ok(tools)
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_double_is_used_with_one_token() {
        let tools = super::double::use_tools().await.unwrap();

        assert_eq!(tools.len(), 1);
        assert_eq!(tools[0].name, "orders");
    }
}
