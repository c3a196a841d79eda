//! tonic's channel over TLS.

use std::fmt::Debug;

use tonic::transport::{Channel, ClientTlsConfig};

pub(crate) async fn get(url: String) -> impl Debug {
    let tls = ClientTlsConfig::new().with_native_roots();
    let channel = Channel::from_shared(url).unwrap();
    channel.tls_config(tls).unwrap().connect().await
}
