//! kube's client.

use std::fmt::Debug;

use kube::{Client, Config};

pub(crate) async fn get(url: String) -> impl Debug {
    let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
    client.apiserver_version().await
}
