//! The token endpoint is the first to need a crypto provider.

#[path = "../../shared.rs"]
mod shared;
mod theirs;

use shared::{ask_for_a_token, begins_a_handshake};

#[tokio::test]
async fn our_token_endpoint_before_their_client() {
    begins_a_handshake(ask_for_a_token).await;
    begins_a_handshake(theirs::get).await;
}
