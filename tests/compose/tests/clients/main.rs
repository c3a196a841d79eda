//! The layers with clients and servers of other crates, on loopback.

mod axum_server;
mod grpc_status;
#[allow(dead_code, reason = "the tests here use a part")]
#[path = "../../../clients/http2_server.rs"]
mod http2_server;
mod kube_client;
mod middleware;
mod octocrab_client;
mod reqwest_client;
mod server;
mod tonic_channel;

use tokio::net::TcpListener;

/// An address without a listener.
async fn deaf() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
