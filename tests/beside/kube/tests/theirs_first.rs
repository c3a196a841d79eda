//! kube's default client is the first to need a crypto provider.

#[path = "../../shared.rs"]
mod shared;
mod theirs;

use shared::{ask_for_a_token, begins_a_handshake};

#[tokio::test]
async fn their_client_before_our_token_endpoint() {
    begins_a_handshake(theirs::get).await;
    begins_a_handshake(ask_for_a_token).await;
}
