//! octocrab's client.

use std::fmt::Debug;

use octocrab::Octocrab;

pub(crate) async fn get(url: String) -> impl Debug {
    let client = Octocrab::builder().base_uri(url).unwrap().build().unwrap();
    let response = client._get("/zen").await;
    response.map(|response| response.status())
}
