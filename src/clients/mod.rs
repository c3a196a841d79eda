//! Adapters for HTTP clients that are not services of `http::Request` themselves.
//!
//! hyper-util's client, tonic's channels and kube's stacks are such services; see the guide
//! [`composing`](crate::docs::composing) for each.

mod reqwest;

pub use self::reqwest::{ReqwestFuture, ReqwestService};
