//! reqwest as its documentation shows it.

use std::fmt::Debug;

pub(crate) async fn get(url: String) -> impl Debug {
    reqwest::get(url).await
}
