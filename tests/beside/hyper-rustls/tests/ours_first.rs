//! The token endpoint is the first to need a crypto provider.

#[path = "../../shared.rs"]
mod shared;
mod theirs;

use shared::{assert_handshake_starts, fetch_token};

#[tokio::test]
async fn a_token_endpoint_and_then_the_default_client() {
    assert_handshake_starts(fetch_token).await;
    assert_handshake_starts(theirs::get).await;
}
