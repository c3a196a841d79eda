//! cargo run --release -p gateway --example upstream
//!
//! What `gateway.toml` names: an issuer at 127.0.0.1:8081 that grants every client a token, and an API at 127.0.0.1:8082 that
//! takes every request and says that a great many more remain.

use axum::{
    Router,
    http::{HeaderName, header::CONTENT_TYPE},
    routing::post,
    serve::ListenerExt,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let token = r#"{"access_token":"token","token_type":"Bearer","expires_in":300}"#;
    let json = [(CONTENT_TYPE, "application/json")];
    let issuer = Router::new().route("/oauth/token", post(move || async move { (json, token) }));
    let quota = [
        (CONTENT_TYPE, "application/json"),
        (HeaderName::from_static("ratelimit-limit"), "1000000"),
        (HeaderName::from_static("ratelimit-remaining"), "999999"),
        (HeaderName::from_static("ratelimit-reset"), "60"),
    ];
    let api = Router::new().fallback(move || async move { (quota, r#"{"ok":true}"#) });
    tokio::try_join!(
        serve("127.0.0.1:8081", issuer),
        serve("127.0.0.1:8082", api)
    )?;
    Ok(())
}

async fn serve(address: &str, router: Router) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router).await
}
