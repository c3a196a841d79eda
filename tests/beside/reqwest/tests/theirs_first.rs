//! reqwest's default client is the first to need a crypto provider.

#[path = "../../shared.rs"]
mod shared;
mod theirs;

use shared::{assert_handshake_starts, fetch_token};

#[tokio::test]
async fn the_default_client_and_then_a_token_endpoint() {
    assert_handshake_starts(theirs::get).await;
    assert_handshake_starts(fetch_token).await;
}
