//! cargo run --release -p gateway --example upstream
//!
//! What `gateway.toml` names: an issuer at 127.0.0.1:8081 that grants every client a token, and an API at 127.0.0.1:8082 that
//! accepts every request and announces its quota in each response: ten million requests a minute.
#![expect(clippy::disallowed_methods, reason = "a server has a clock")]

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header::CONTENT_TYPE},
    routing::post,
    serve::ListenerExt,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let token = r#"{"access_token":"token","token_type":"Bearer","expires_in":300}"#;
    let json = [(CONTENT_TYPE, "application/json")];
    let issuer = Router::new().route("/oauth/token", post(move || async move { (json, token) }));
    let quota = Arc::new(Mutex::new(Quota {
        minute: 0,
        remaining: 0,
    }));
    let api = Router::new().fallback(async move || {
        let (remaining, reset) = quota.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fields = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (
                HeaderName::from_static("ratelimit-limit"),
                HeaderValue::from(LIMIT),
            ),
            (
                HeaderName::from_static("ratelimit-remaining"),
                remaining.into(),
            ),
            (HeaderName::from_static("ratelimit-reset"), reset.into()),
        ];
        (fields, r#"{"ok":true}"#)
    });
    tokio::try_join!(
        serve("127.0.0.1:8081", issuer),
        serve("127.0.0.1:8082", api)
    )?;
    Ok(())
}

/// Requests in a minute. The load of a test stays below it.
const LIMIT: u64 = 10_000_000;

/// The quota of the current minute.
struct Quota {
    minute: u64,
    remaining: u64,
}

impl Quota {
    /// Counts a request. Returns what remains, and the seconds until the next minute.
    fn take(&mut self) -> (u64, u64) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        if self.minute != now / 60 {
            (self.minute, self.remaining) = (now / 60, LIMIT);
        }
        self.remaining = self.remaining.saturating_sub(1);
        (self.remaining, 60 - now % 60)
    }
}

async fn serve(address: &str, router: Router) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router).await
}
