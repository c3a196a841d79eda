//! hyper-rustls as its documentation shows it.

use std::fmt::Debug;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

pub(crate) async fn get(url: String) -> impl Debug {
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()
        .unwrap()
        .https_only()
        .enable_http1()
        .build();
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    client.get(url.parse().unwrap()).await
}
