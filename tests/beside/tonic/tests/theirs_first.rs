//! tonic's default client is the first to need a crypto provider.

#[path = "../../shared.rs"]
mod shared;
mod theirs;

use shared::{assert_handshake_starts, fetch_token};

#[tokio::test]
async fn their_client_before_our_token_endpoint() {
    assert_handshake_starts(theirs::get).await;
    assert_handshake_starts(fetch_token).await;
}
