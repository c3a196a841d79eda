//! A text where a source of tokens is expected.

use tower_m2m::ClientCredentialsLayer;

fn main() {
    let origin = "https://api.example.com".parse().unwrap();
    let _ = ClientCredentialsLayer::builder("my-token", origin).build();
}
