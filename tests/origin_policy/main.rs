//! The token is sent to the configured origins only.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod hosts;
mod redirects;
#[cfg(feature = "https")]
mod tls;
mod wire;

use http::Request;
use support::Body;

/// A request to any URI.
fn to(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::default()).unwrap()
}
