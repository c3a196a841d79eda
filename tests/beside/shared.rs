//! What the packages in this directory share: a TLS client of another crate and the crate's own, each of which must begin a
//! handshake.
#![allow(dead_code, reason = "each package uses a part")]

use std::{fmt::Debug, future::Future};

use tokio::{io::AsyncReadExt, net::TcpListener};
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint, client_credentials::TokenHandle,
};

/// The tokens of an endpoint with the crate's defaults.
pub(crate) fn tokens(url: &str) -> TokenHandle {
    let endpoint = TokenEndpoint::new(url.parse().unwrap(), ClientAuth::basic("id", "secret"));
    let origin = "https://api.example".parse().unwrap();
    let layer = ClientCredentialsLayer::builder(endpoint, origin).build();
    layer.handle()
}

/// Asks for a token at `url`, over the crate's own https client.
pub(crate) async fn fetch_token(url: String) -> impl Debug {
    tokens(&format!("{url}/token")).token().await
}

/// Panics unless `client` begins a TLS handshake with the server at the URL that it is given.
pub(crate) async fn assert_handshake_starts<F>(client: impl FnOnce(String) -> F)
where
    F: Future<Output: Debug>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.read_u8().await.unwrap()
    };
    tokio::select! {
        first = server => assert_eq!(first, HANDSHAKE),
        outcome = client(url) => panic!("no handshake: {outcome:?}"),
    }
}

/// The type of a TLS record that begins a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
