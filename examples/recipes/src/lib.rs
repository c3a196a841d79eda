//! Recipes: how to use tower-m2m with the servers of a vendor, one file each. `cargo test -p recipes --all-features` runs
//! all of them by name.
//!
//! A file begins with the function to copy, and with the source of its facts. Below is a double that checks what the vendor
//! checks and responds with the fields that the vendor documents, and tests that use the function against it. The guide
//! `recipes` of the crate has all of them in two tables.
//!
//! - [`token_endpoints`] and [`workload_identity`] return a [`TokenEndpoint`](tower_m2m::TokenEndpoint). Pass it to
//!   [`ClientCredentialsLayer::builder`](tower_m2m::ClientCredentialsLayer::builder) with the origin of the API.
//! - [`limits`] returns a layer. It goes above the client, and above the layer with the token.

pub mod limits;
pub mod token_endpoints;
pub mod workload_identity;

#[cfg(test)]
mod double;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};
use tower_m2m::BoxError;

/// An HTTP client for the recipes that send requests of their own.
pub type Http = BoxCloneSyncService<Request<Full<Bytes>>, Response<Full<Bytes>>, BoxError>;

/// Makes an [`Http`] of your client, such as hyper-util's. Reads each response to its end, up to 1 MiB.
pub fn http<S, B>(client: S) -> Http
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let client = client.map_err(Into::into);
    BoxCloneSyncService::new(client.and_then(async |response: Response<B>| {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
        Ok(Response::from_parts(head, Full::new(body)))
    }))
}

/// Maximum length of a response, in bytes.
const MAX_BODY: usize = 1 << 20;
