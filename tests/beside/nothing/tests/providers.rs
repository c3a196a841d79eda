//! What the defaults do where the program has no crypto provider, and with the feature that the error names.

#[path = "../../shared.rs"]
mod shared;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

#[cfg(feature = "ring")]
#[tokio::test]
async fn with_a_provider_feature_a_token_endpoint_works() {
    shared::assert_handshake_starts(shared::fetch_token).await;
}

#[cfg(not(feature = "ring"))]
#[tokio::test]
async fn without_a_provider_the_error_names_the_two_features() {
    let error = shared::tokens("https://issuer.example/token").token().await;

    let error = error.unwrap_err().to_string();
    for named in ["`ring`", "`aws-lc-rs`", "install_default", ".service("] {
        assert!(error.contains(named), "{error}");
    }
}

#[tokio::test]
async fn plain_http_on_loopback_needs_no_provider() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let server = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = connection.read(&mut request).await.unwrap();
        let token = r#"{"access_token":"abc","token_type":"Bearer","expires_in":300}"#;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
        let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{token}", token.len());
        connection.write_all(answer.as_bytes()).await.unwrap();
    };

    let tokens = shared::tokens(&url);
    let (token, ()) = tokio::join!(tokens.token(), server);

    assert_eq!(token.unwrap().expose(), Some("abc"));
}

#[cfg(all(feature = "redis-tls", not(feature = "ring")))]
#[tokio::test]
async fn without_a_provider_a_store_over_tls_returns_an_error() {
    use tower_m2m::{
        client_credentials::{RedisTokenStore, TokenStore},
        store::{CacheKey, StoreKeyring},
    };

    let keys = StoreKeyring::dangerously_unencrypted();
    let store = RedisTokenStore::new("rediss://127.0.0.1:1", keys).unwrap();

    let error = store.get(&CacheKey::new("test")).await.unwrap_err();

    let error = error.to_string();
    assert!(error.contains("install_default"), "{error}");
}
