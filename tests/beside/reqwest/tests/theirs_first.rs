//! reqwest's default client is the first to need a crypto provider.

#[path = "../../shared.rs"]
mod shared;
mod theirs;

use shared::{ask_for_a_token, begins_a_handshake};

#[tokio::test]
async fn the_default_client_and_then_a_token_endpoint() {
    begins_a_handshake(theirs::get).await;
    begins_a_handshake(ask_for_a_token).await;
}
