//! A token endpoint on loopback, for contestants that fetch their token over HTTP. It grants every request.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use crate::inner::token;

/// Its URL.
pub async fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    format!("http://{address}/token")
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    drop(request.into_body().collect().await);
    let answer = Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(document()));
    Ok(answer.expect("a response"))
}

/// A token for a day.
pub fn document() -> Bytes {
    json!({ "access_token": token(), "token_type": "Bearer", "expires_in": 86_400 })
        .to_string()
        .into()
}
