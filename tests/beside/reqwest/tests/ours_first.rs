//! The token endpoint is the first to need a crypto provider.

#[path = "../../shared.rs"]
mod shared;
mod theirs;

use shared::{assert_handshake_starts, fetch_token};

#[tokio::test]
async fn our_token_endpoint_before_their_client() {
    assert_handshake_starts(fetch_token).await;
    assert_handshake_starts(theirs::get).await;
}
