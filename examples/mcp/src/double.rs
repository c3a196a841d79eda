//! An MCP server and its authorization server, on loopback.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use rmcp::model::Tool;
use serde_json::{Value, json};
use tower_m2m::{
    BoxError, ClientAuth, TokenEndpoint,
    test_util::{Api, Issuer},
};

/// Uses the tools of a double, and prints what it cost.
pub(crate) async fn use_tools() -> Result<Vec<Tool>, BoxError> {
    let issuer = Issuer::builder()
        .client("my-client", "my-secret")
        .start()
        .await?;
    let api = Api::builder()
        .tokens(issuer.tokens())
        .protected_resource("/mcp", issuer.origin())
        .route(Method::POST, "/mcp", answer)
        .route(Method::GET, "/mcp", |_| {
            status(StatusCode::METHOD_NOT_ALLOWED)
        })
        .start()
        .await?;
    let url: http::Uri = format!("{}/mcp", api.origin()).parse()?;
    let auth = ClientAuth::basic("my-client", "my-secret");

    let tools = super::use_tools(url.clone(), TokenEndpoint::for_resource(url, auth)).await?;

    let (seen, issued) = (api.stats(), issuer.stats().issued);
    println!(
        "{} requests, {} without a token, {issued} token",
        seen.requests, seen.unauthorized
    );
    if (seen.unauthorized, issued) != (1, 1) {
        return Err("expected one request without a token, and one token".into());
    }
    Ok(tools)
}

/// Answers one message of JSON-RPC.
fn answer(request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let Ok(message) = serde_json::from_slice::<Value>(request.body()) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let result = match message["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "double", "version": "1" },
        }),
        Some("tools/list") => json!({
            "tools": [{
                "name": "orders",
                "description": "Lists the orders",
                "inputSchema": { "type": "object" },
            }],
        }),
        Some("tools/call") => json!({ "content": [{ "type": "text", "text": "none" }] }),
        // A notification.
        _ if message.get("id").is_none() => return status(StatusCode::ACCEPTED),
        _ => return status(StatusCode::BAD_REQUEST),
    };
    let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
    let mut response = Response::new(answer.to_string().into());
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Returns a response without a body.
fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
